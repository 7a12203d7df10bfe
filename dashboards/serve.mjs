// Serves the built site on the loopback interface: node serve.mjs FOLDER PORT [PORT-FILE]
//
// Only what lies in the folder, only to this machine; ranges of files too, since
// the pages read their data in pieces.  Port 0 = any free one.
import { createServer } from 'node:http';
import { createReadStream, writeFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';

const [folder, port = '0', portFile] = process.argv.slice(2);
if (!folder || !/^\d+$/.test(port)) {
	console.error('usage: node serve.mjs FOLDER PORT [PORT-FILE]');
	process.exit(2);
}
const root = path.resolve(folder);

const TYPES = {
	'.html': 'text/html; charset=utf-8',
	'.js': 'text/javascript; charset=utf-8',
	'.css': 'text/css; charset=utf-8',
	'.json': 'application/json; charset=utf-8',
	'.svg': 'image/svg+xml',
	'.png': 'image/png',
	'.ico': 'image/x-icon',
	'.wasm': 'application/wasm',
	'.woff2': 'font/woff2',
	'.webmanifest': 'application/manifest+json'
};

async function find(address) {
	const name = path.join(root, path.normalize(decodeURIComponent(new URL(address, 'http://x').pathname)));
	if (name !== root && !name.startsWith(root + path.sep)) return null;
	for (const candidate of [name, path.join(name, 'index.html')]) {
		const s = await stat(candidate).catch(() => null);
		if (s?.isFile()) return { name: candidate, size: s.size };
	}
	return null;
}

const server = createServer(async (request, response) => {
	try {
		if (request.method !== 'GET' && request.method !== 'HEAD') {
			response.writeHead(405).end();
			return;
		}
		const file = await find(request.url);
		if (!file) {
			response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8' }).end('нет такой страницы\n');
			return;
		}
		const headers = {
			'content-type': TYPES[path.extname(file.name)] ?? 'application/octet-stream',
			'accept-ranges': 'bytes',
			'x-content-type-options': 'nosniff',
			// names of files that never change carry a hash
			'cache-control': file.name.includes(`${path.sep}immutable${path.sep}`) ? 'max-age=31536000, immutable' : 'no-cache'
		};
		const range = /^bytes=(\d*)-(\d*)$/.exec(request.headers.range ?? '');
		let from = 0;
		let to = file.size - 1;
		if (range && (range[1] || range[2])) {
			from = range[1] ? Number(range[1]) : Math.max(0, file.size - Number(range[2]));
			to = range[1] && range[2] ? Math.min(Number(range[2]), to) : to;
			if (from > to) {
				response.writeHead(416, { 'content-range': `bytes */${file.size}` }).end();
				return;
			}
			headers['content-range'] = `bytes ${from}-${to}/${file.size}`;
		}
		headers['content-length'] = to - from + 1;
		response.writeHead(headers['content-range'] ? 206 : 200, headers);
		if (request.method === 'HEAD' || file.size === 0) response.end();
		else
			createReadStream(file.name, { start: from, end: to })
				.on('error', () => response.destroy())
				.pipe(response);
	} catch {
		if (!response.headersSent) response.writeHead(400);
		response.end();
	}
});

server.on('error', (e) => {
	console.error(e.code === 'EADDRINUSE' ? `port ${port} is taken; choose another: make dashboards DASHBOARDS_PORT=…` : e.message);
	process.exit(1);
});
server.listen(Number(port), '127.0.0.1', () => {
	if (portFile) writeFileSync(portFile, String(server.address().port));
	console.log(`http://127.0.0.1:${server.address().port}/`);
});
