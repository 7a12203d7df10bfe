// Gives each view without a row a file of its columns and no rows. Evidence
// writes an empty file then, which nothing can read: a warehouse without a single
// broken deal would have no pages.
//
// usage: node fill-empty.mjs FOLDER     what "evidence sources" has written
import { chmod, readdir, readFile, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { initDB, query } from '@evidence-dev/universal-sql/client-duckdb';

const TYPES = { number: 'DOUBLE', string: 'VARCHAR', boolean: 'BOOLEAN', date: 'TIMESTAMP' };
const quoted = (name) => `"${name.replaceAll('"', '""')}"`;
const folder = process.argv[2];
let filled = 0;

for (const name of await readdir(folder)) {
	const file = path.join(folder, name, `${name}.parquet`);
	const size = await stat(file).then((s) => s.size, () => 0);
	if (size > 0) continue;
	const columns = JSON.parse(await readFile(path.join(folder, name, `${name}.schema.json`), 'utf8'));
	await initDB();
	await rm(file, { force: true });
	const list = columns.map((c) => `CAST(NULL AS ${TYPES[c.evidenceType]}) AS ${quoted(c.name)}`);
	await query(`COPY (SELECT ${list.join(', ')} WHERE false) TO '${file.replaceAll("'", "''")}' (FORMAT 'PARQUET')`);
	await chmod(file, 0o644);
	filled++;
}
if (filled) console.log(`${filled} of them without a row`);
process.exit(0);
