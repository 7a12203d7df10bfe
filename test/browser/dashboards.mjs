// The dashboards in a real browser, as a reader meets them: every page on a desktop
// and on a phone; every figure against what really happened (truth.py) and against
// the views; filters filter; nothing is written to the console, nothing is fetched
// from elsewhere.  Speaks TAP.
//
// usage: node dashboards.mjs URL TRUTH.json SHOTS        (test/browser/run starts it)
//        node dashboards.mjs --empty URL SHOTS           of an account that has nothing
//
// The views are asked by SQL of its own, by the role that the dashboards read with;
// TRUTH.json is what truth.py tells.  A figure, a table's column or a chart that
// truth.py does not tell of fails the test.
import { createRequire } from 'node:module';
import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { colours } from './colours.mjs';

const require = createRequire(path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '../../dashboards/package.json'));
const { chromium } = require('playwright-core');
const { Client, types } = require('pg');
types.setTypeParser(20, Number);
types.setTypeParser(1700, Number);
types.setTypeParser(1082, String);

const empty = process.argv[2] === '--empty';
const [base, ...rest] = process.argv.slice(empty ? 3 : 2);
const [truthFile, shots] = empty ? [null, rest[0]] : rest;
const ACCOUNT = process.env.EVIDENCE_VAR__account;
mkdirSync(shots, { recursive: true });

// ---- TAP ----

let number = 0;
let failures = 0;
function ok(good, what, why = '') {
	number++;
	if (!good) failures++;
	console.log(`${good ? 'ok' : 'not ok'} ${number} - ${what}`);
	if (!good && why) console.log(String(why).split('\n').slice(0, 12).map((l) => '#   ' + l.slice(0, 400)).join('\n'));
}
const near = (a, b, by = 1e-6) => a === b || (typeof a === 'number' && typeof b === 'number' && Math.abs(a - b) <= by);
function is(got, want, what, by) {
	ok(near(got, want, by), what, `on the page ${JSON.stringify(got)}, expected ${JSON.stringify(want)}`);
}
/** Two records of figures: the same keys, the same values; nought is as good as absent. */
function same(got, want, what, by = 1e-6) {
	const bad = [...new Set([...Object.keys(got), ...Object.keys(want)])].filter((k) => !near(Number(got[k] ?? 0), Number(want[k] ?? 0), by));
	ok(Object.keys(want).length > 0 && bad.length === 0, what, Object.keys(want).length ? bad.map((k) => `${k}: on the page ${got[k]}, expected ${want[k]}`).join('\n') : 'nothing is expected: the test is empty');
}
const sum = (list) => list.reduce((a, b) => a + b, 0);
const add = (record, key, n) => { record[key] = (record[key] ?? 0) + n; };

// ---- the browser ----

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
const WIDTHS = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };
const trouble = [];

async function open(size, address) {
	// a reader far from the account's zone: nothing on the pages may shift by it
	const context = await browser.newContext({ viewport: WIDTHS[size], locale: 'ru-RU', timezoneId: 'America/Los_Angeles', hasTouch: size === 'phone' });
	const page = await context.newPage();
	page.troubles = [];
	page.on('console', (m) => m.type() === 'error' && page.troubles.push('console: ' + m.text()));
	page.on('pageerror', (e) => page.troubles.push('error: ' + e.message));
	page.on('response', (r) => r.status() >= 400 && page.troubles.push(`${r.status()} ${r.url()}`));
	page.on('request', (r) => !/^(blob|data):/.test(r.url()) && !r.url().startsWith(base) && page.troubles.push('asks elsewhere: ' + r.url()));
	await page.goto(base + address, { waitUntil: 'networkidle' });
	await settle(page);
	return page;
}

/** Until every query has answered, every picture stands, and none of it changes any more. */
async function settle(page) {
	let last = '';
	for (let i = 0; i < 120; i++) {
		const now = await page.evaluate(() => {
			const waits = document.querySelector('.loading, [data-drawn="false"], [data-sveltekit-navigating]');
			return (waits ? 'waits ' : '') + document.querySelector('main')?.innerText.length + ' ' + [...document.querySelectorAll('[data-value]')].map((e) => e.dataset.value).join('|').length
				+ [...document.querySelectorAll('[data-figure]')].map((e) => e.dataset.value).join('|') + [...document.querySelectorAll('[data-rows]')].map((e) => e.dataset.rows).join('|');
		});
		if (now === last && !now.startsWith('waits')) return;
		last = now;
		await page.waitForTimeout(250);
	}
	page.troubles.push('the page did not come to rest within 30 s');
}

/** What stands on the page: figures, tables row by row, pictures with their numbers. */
async function read(page) {
	for (let i = 0; i < 20; i++) {
		const more = page.getByRole('button', { name: 'Показать все' });
		if (!(await more.count())) break;
		await more.first().click();
	}
	return page.evaluate(() => {
		const value = (t) => (t === '' ? null : /^-?\d+(\.\d+)?(e[+-]?\d+)?$/.test(t) ? Number(t) : t);
		// "1 234,5 %" as it is written for people
		const figure = (t) => {
			const plain = t.replace(/[\u00a0\s]/g, '').replace('−', '-').replace(',', '.').replace('%', '');
			return plain === '—' || plain === '' ? null : Number.isFinite(Number(plain)) ? Number(plain) : t;
		};
		const out = { figures: {}, before: {}, shown: {}, tables: {}, charts: {}, empties: [], trouble: [] };
		for (const e of document.querySelectorAll('[data-figure]')) {
			out.figures[e.dataset.figure] = value(e.dataset.value);
			out.shown[e.dataset.figure] = e.querySelector('.figure-value')?.innerText ?? e.innerText;
			if (e.dataset.before !== undefined) out.before[e.dataset.figure] = value(e.dataset.before);
		}
		for (const t of document.querySelectorAll('[data-table]')) {
			out.tables[t.dataset.table] = [...t.querySelectorAll('tbody tr')].map((tr) => {
				const row = { rule: tr.dataset.rule, deal_id: tr.dataset.deal ? Number(tr.dataset.deal) : undefined, text: tr.innerText };
				for (const td of tr.querySelectorAll('td')) row[td.dataset.col] = value(td.dataset.value);
				return row;
			});
		}
		for (const c of document.querySelectorAll('[data-chart]')) {
			const svg = c.querySelector('svg');
			const box = c.querySelector('.chart-box').getBoundingClientRect();
			const cut = [...(svg?.querySelectorAll('text') ?? [])].filter((t) => {
				const r = t.getBoundingClientRect();
				return r.width > 0 && (r.left < box.left - 2 || r.right > box.right + 2 || r.top < box.top - 2 || r.bottom > box.bottom + 2);
			}).map((t) => t.textContent);
			out.charts[c.dataset.chart] = {
				drawn: c.dataset.drawn === 'true',
				cut,
				shapes: [...(svg?.querySelectorAll('path') ?? [])].filter((p) => {
					const r = p.getBoundingClientRect();
					return p.getAttribute('fill') !== 'none' && p.getAttribute('fill') !== 'transparent' && r.width > 0 && r.height > 0;
				}).length,
				lines: [...(svg?.querySelectorAll('path[fill="none"]') ?? [])].length,
				texts: [...(svg?.querySelectorAll('text') ?? [])].map((t) => t.textContent),
				head: [...c.querySelectorAll('thead th')].map((h) => h.textContent),
				rows: [...c.querySelectorAll('tbody tr')].map((tr) => [...tr.children].map((x, i) => (i ? figure(x.textContent) : x.textContent)))
			};
		}
		out.empties = [...document.querySelectorAll('[data-empty]')].map((e) => e.dataset.empty);
		out.trouble = [...document.querySelectorAll('.trouble')].map((e) => e.innerText);
		out.states = document.querySelectorAll('[data-state]').length;
		out.moves = document.querySelectorAll('[data-moves] .move').length;
		out.width = document.documentElement.scrollWidth;
		out.window = window.innerWidth;
		out.text = document.querySelector('main').innerText;
		return out;
	});
}

async function choose(page, name, value) {
	await page.locator(`[data-choice="${name}"] select`).selectOption(String(value));
	await settle(page);
	return read(page);
}

const PAGES = {
	'/': { shot: 'overview', charts: ['who', 'by_week', 'compliance_by_week'], tables: ['who_what', 'open_now'] },
	'/managers/': { shot: 'managers', charts: ['broken', 'weekly', 'weekly_violations'], tables: ['cards', 'by_rule', 'listed', 'tidy'] },
	'/rules/': { shot: 'rules', charts: ['most_broken', 'rule_weeks'], tables: ['rules', 'rule_violations'] },
	'/funnel/': { shot: 'funnel', charts: ['funnel', 'dwell', 'reasons'], tables: ['funnel_table', 'norms', 'stuck', 'returns'] },
	'/response/': { shot: 'response', charts: ['spread', 'by_hour', 'arrivals', 'by_manager'], tables: ['by_manager_table'] },
	'/risk/': { shot: 'risk', charts: ['risk_stages'], tables: ['at_risk', 'no_task', 'deadlines'] },
	'/deal/': { shot: 'deal', charts: [], tables: [] },
	'/regulation/': { shot: 'regulation', charts: [], tables: ['regulation'] },
	'/sync/': { shot: 'sync', charts: [], tables: ['gaps', 'parts'] }
};

/** What holds for every page, whatever it shows. */
async function every(page, address, size, seen) {
	const name = `${address} on a ${size}`;
	ok(page.troubles.length === 0, `${name}: no error, nothing fetched from elsewhere`, page.troubles.join('\n'));
	ok(seen.trouble.length === 0, `${name}: every query answers`, seen.trouble.join('\n'));
	ok(seen.width <= seen.window, `${name}: no sideways scrolling of the page`, `${seen.width} px wide in ${seen.window}`);
	ok(!/undefined|NaN|\[object|Infinity|null/.test(seen.text), `${name}: no words of the machine`, seen.text.match(/.{0,40}(undefined|NaN|\[object|Infinity|null).{0,40}/)?.[0]);
	for (const [chart, c] of Object.entries(seen.charts)) {
		const cells = c.rows.flatMap((r) => r.slice(1)).filter((v) => v).length;
		ok(c.drawn && (c.shapes >= Math.min(cells, 1) && c.shapes + 50 * c.lines >= cells), `${name}: chart ${chart} drew`, `${c.shapes} shapes, ${c.lines} lines for ${cells} figures`);
		ok(c.cut.length === 0, `${name}: chart ${chart} cuts no words off`, c.cut.join(' | '));
	}
}

// ---- an account that has nothing ----

if (empty) {
	for (const [address, p] of Object.entries(PAGES)) {
		const page = await open('phone', address);
		const seen = await read(page);
		await every(page, address, 'phone, empty account', seen);
		if (p.charts.length + p.tables.length > 0 && address !== '/regulation/' && address !== '/sync/')
			ok(seen.empties.length > 0, `${address} of an empty account says that there is nothing`, seen.text.slice(0, 300));
		await page.screenshot({ path: path.join(shots, `empty-${p.shot}.png`), fullPage: true });
		await page.context().close();
	}
	await browser.close();
	console.log(`1..${number}`);
	process.exit(failures ? 1 : 0);
}

// ---- what must be seen ----

const truth = JSON.parse(readFileSync(truthFile, 'utf8'));
const db = new Client({ host: process.env.EVIDENCE_SOURCE__regcrm__host, database: process.env.EVIDENCE_SOURCE__regcrm__database, user: process.env.EVIDENCE_SOURCE__regcrm__user });
await db.connect();
const rows = async (sql) => (await db.query(sql.replaceAll(':account', ACCOUNT))).rows;
const one = async (sql) => (await rows(sql))[0];
const record = async (sql) => Object.fromEntries((await rows(sql)).map((r) => [r.key, r.value]));

// ---- figures against the truth ----

/** A value of the truth and one on the page, which must be the same, or as near as the page writes it. */
function differs(got, want, by = 1e-6) {
	got ??= null;
	want ??= null;
	return !near(got, want, by);
}
const flatText = (t) => t.replaceAll('\u00a0', ' ');

/** Rows of the truth beside rows of the page: the same number, each with the same figures. */
function table(got, want, where) {
	// a deal without a name is shown by its number
	for (const r of want.rows) if (r.deal_name !== undefined && !r.deal_name?.trim()) r.deal_name = `№ ${r.deal_id}`;
	const columns = [...new Set(got.flatMap((r) => Object.keys(r)))].filter((c) => !['rule', 'deal_id', 'text'].includes(c));
	const told = new Set(want.rows.flatMap((r) => Object.keys(r)));
	const unknown = columns.filter((c) => !told.has(c) && !want.words.includes(c));
	ok(got.length === 0 || unknown.length === 0, `${where}: the truth tells of each of its columns`, unknown.join(', '));
	const key = (r) => want.by.map((c) => String(r[c] ?? '')).join('|');
	const order = (list) => [...list].sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0));
	const [a, b] = [order(got), order(want.rows)];
	const bad = [];
	if (a.length !== b.length) {
		const keys = (list) => new Set(list.map(key));
		const [x, y] = [keys(a), keys(b)];
		bad.push(`${a.length} rows, expected ${b.length}; too many: ${[...x].filter((k) => !y.has(k)).slice(0, 5).join(' ; ')}; missing: ${[...y].filter((k) => !x.has(k)).slice(0, 5).join(' ; ')}`);
	} else {
		b.forEach((w, i) => {
			for (const c of Object.keys(w)) {
				if (want.not?.includes(c)) continue;
				let g = a[i][c];
				// lists of titles: how many
				if (want.parts?.includes(c)) g = g === null || g === undefined ? 0 : String(g).split('; ').length;
				if (differs(g, w[c], want.near?.[c])) bad.push(`${key(w)}: ${c} is ${g}, expected ${w[c]}`);
			}
			if (a[i].deal_url !== undefined && !String(a[i].deal_url).endsWith(`/leads/detail/${a[i].deal_id}`)) bad.push(`${key(w)}: leads to ${a[i].deal_url}`);
		});
	}
	ok(bad.length === 0, `${where}: ${b.length} rows, ${[...told].length} columns as in truth`, bad.join('\n'));
}

function chart(got, want, where, by) {
	const rows = want.filter((r) => r.slice(1).some((v) => v !== null));
	if (!got) {
		ok(want.every((r) => r.slice(1).every((v) => !v)), `${where}: nothing to draw`, `expected ${JSON.stringify(want)}`);
		return;
	}
	const shown = got.rows.filter((r) => r.slice(1).some((v) => v !== null));
	const bad = [];
	if (shown.length !== rows.length) bad.push(`${shown.length} bars, expected ${rows.length}: ${shown.map((r) => r[0])}; ${rows.map((r) => r[0])}`);
	rows.forEach((w, i) => {
		const g = w[0] === null ? shown[i] : shown.find((r) => r[0] === w[0]);
		if (!g) bad.push(`no ${w[0]}`);
		else w.slice(1).forEach((v, k) => differs(g[k + 1], v, by ?? 0.051) && bad.push(`${w[0]}: ${g[k + 1]}, expected ${v}`));
	});
	ok(bad.length === 0, `${where}: ${rows.length} bars or points as in truth`, bad.join('\n'));
}

/** Everything that a page shows, against what truth.py tells of it: nothing more, nothing less. */
function against(seen, want, where) {
	for (const name of new Set([...Object.keys(seen.figures), ...Object.keys(want.figures ?? {})])) {
		if (want.served?.includes(name) || want.any?.includes(name)) continue;
		ok(want.figures && name in want.figures, `${where}: the truth tells of the figure ${name}`);
		if (want.figures && name in want.figures) is(seen.figures[name] ?? null, want.figures[name], `${where}: ${name} as in truth`);
		if (seen.before[name] !== undefined || want.before?.[name] !== undefined)
			is(seen.before[name] ?? null, want.before?.[name] ?? null, `${where}: ${name} of the period before as in truth`);
	}
	const text = flatText(seen.text);
	for (const sentence of want.says ?? []) ok(text.includes(flatText(sentence)), `${where}: it says «${sentence}»`, text.slice(0, 1500));
	for (const name of new Set([...Object.keys(seen.tables), ...Object.keys(want.tables ?? {})])) {
		const told = want.tables?.[name];
		ok(told, `${where}: the truth tells of the table ${name}`);
		if (told?.served) {
			const unknown = Object.keys(seen.tables[name][0]).filter((c) => !['rule', 'deal_id', 'text', ...told.words].includes(c));
			ok(unknown.length === 0, `${where}: table ${name}: the truth tells of each of its columns`, unknown.join(', '));
		} else if (told) table(seen.tables[name] ?? [], told, `${where}: table ${name}`);
	}
	for (const name of new Set([...Object.keys(seen.charts), ...Object.keys(want.charts ?? {})])) {
		const told = want.charts?.[name];
		ok(told, `${where}: the truth tells of the chart ${name}`);
		if (told) chart(seen.charts[name], told, `${where}: chart ${name}`, want.near?.[name]);
	}
}

const MONTHS = ['янв', 'фев', 'мар', 'апр', 'мая', 'июн', 'июл', 'авг', 'сен', 'окт', 'ноя', 'дек'];
const dayName = (iso) => `${Number(iso.slice(8, 10))}\u00a0${MONTHS[Number(iso.slice(5, 7)) - 1]}`;
const AS_OF = `(SELECT as_of FROM regcrm.account_now WHERE account_id = :account)`;
const PERIOD = (days) => `((${AS_OF} AT TIME ZONE 'Europe/Moscow')::date - ${days - 1})`;

/** Requests and rows that the simulator itself says it gave out, against what the page says was read. */
async function served(seen) {
	const sim = await (await fetch(`${process.env.SIMULATOR}/_sim/stats`)).json();
	const rows = { users: ['users'], loss_reasons: ['loss_reasons'], custom_fields: ['custom_fields'], leads: ['leads', 'leads_deleted'], contacts: ['contacts'],
		tasks: ['tasks'], notes: ['lead_notes', 'contact_notes', 'company_notes'], events: ['events'] };
	ok(sim.now - truth.as_of < 60, 'sync, truth: known up to the simulated now', `${sim.now - truth.as_of} s behind`);
	const part = Object.fromEntries(seen.tables.parts.map((r) => [r.text.match(/[a-z_]{4,}/)[0], r]));
	for (const [name, entities] of Object.entries(rows)) is(sum(entities.map((e) => part[e]?.rows_read ?? 0)), sim.rows[name], `sync, truth: rows of ${name} given out`);
	// an account and its pipelines come whole, not as a list of pages; where the
	// hour is in doubt a pass asks for the account twice and takes one answer
	ok(part.account.rows_read >= 1 && part.account.rows_read <= part.account.requests, 'sync, truth: the account, at most once a request',
		`${part.account.rows_read} rows, ${part.account.requests} requests`);
	is(part.pipelines.rows_read, 2 * sim.paths['/api/v4/leads/pipelines'], 'sync, truth: both pipelines, each time');
	is(seen.figures.rows_read, sum(Object.values(sim.rows)) + part.account.rows_read + part.pipelines.rows_read, 'sync, truth: rows in all');
	is(seen.figures.requests, sim.requests, 'sync, truth: requests in all');
	const path = (p) => sim.paths[`/api/v4/${p}`];
	const requests = { users: path('users'), loss_reasons: path('leads/loss_reasons'), custom_fields: path('leads/custom_fields'), leads: path('leads') - part.leads_deleted.requests,
		contacts: path('contacts'), tasks: path('tasks'), events: path('events'), lead_notes: path('leads/notes'), contact_notes: path('contacts/notes'), company_notes: path('companies/notes'),
		pipelines: path('leads/pipelines'), account: path('account') - part.connect.requests };
	for (const [entity, n] of Object.entries(requests)) is(part[entity].requests, n, `sync, truth: requests for ${entity}`);
	const sum_ = (c) => sum(seen.tables.parts.map((r) => r[c] ?? 0));
	is(sum_('requests'), sim.requests, 'sync, truth: the parts\' requests make them all');
	is(sum_('quarantined'), truth.pages['/sync/'].figures.quarantined, 'sync, truth: the parts\' quarantine makes it all');
	is(part.events.quarantined, truth.pages['/sync/'].figures.quarantined, 'sync, truth: events of a kind that nobody knows');
	const read = seen.tables.parts.filter((r) => r.read_until !== null);
	ok(read.length >= 12 && read.every((r) => r.read_until === truth.pages['/sync/'].figures.known_until), 'sync, truth: each list read up to the same moment');
	ok(seen.tables.parts.every((r) => r.load_percent === null || r.load_percent === 100), 'sync, truth: the whole history is loaded');
	ok(seen.tables.parts.every((r) => r.last_error === null), 'sync, truth: no request failed', sim.refused_429);
}

/** The views beside the pages: the same figures, asked in SQL. */
const checks = {
	'/': async (seen) => {
		const open = await one(`SELECT count(*) AS n, count(*) FILTER (WHERE breached_at > ${AS_OF} - interval '7 days') AS week FROM regcrm.open_violations WHERE account_id = :account`);
		is(seen.figures.still_open, open.week, 'overview, view: still open of this week');
		is(seen.tables.open_now.length, open.n, 'overview, view: all that is still open');
		is(seen.figures.violations, (await one(`SELECT count(*) AS n FROM regcrm.violations WHERE account_id = :account AND counts AND breached_at > ${AS_OF} - interval '7 days'`)).n, 'overview, view: breaches of the last seven days');
		const c = await one(`SELECT round(100.0 * sum(met) / sum(decided), 1) AS compliance FROM regcrm.manager_scorecard WHERE account_id = :account AND day >= ${PERIOD(7)}`);
		is(seen.figures.compliance, c.compliance, 'overview, view: compliance');
		same(Object.fromEntries(seen.charts.compliance_by_week.rows),
			Object.fromEntries((await rows(`SELECT week, round(100.0 * sum(met) / sum(decided), 1) AS c FROM regcrm.manager_weekly WHERE account_id = :account GROUP BY week`)).map((r) => [dayName(r.week), r.c])),
			'overview, view: compliance by week');
		is((seen.tables.due_soon ?? []).length, (await one(`SELECT count(*) AS n FROM regcrm.due_soon WHERE account_id = :account`)).n, 'overview, view: due within two hours');
	},
	'/managers/': async (seen) => {
		const cards = seen.tables.cards;
		const views = await rows(`SELECT manager_name, sum(met) AS met, sum(late) AS late, sum(missed) AS missed, sum(decided) AS decided, sum(cancelled) AS cancelled,
			sum(pending + waiting) AS running, sum(breaches_at_once) AS breaches_at_once, round(100.0 * sum(met) / nullif(sum(decided), 0), 1) AS compliance
			FROM regcrm.manager_scorecard WHERE account_id = :account AND day >= ${PERIOD(30)} GROUP BY manager_name`);
		for (const column of ['met', 'late', 'missed', 'decided', 'cancelled', 'running', 'breaches_at_once', 'compliance'])
			same(Object.fromEntries(cards.map((r) => [r.manager_name, r[column]])), Object.fromEntries(views.map((r) => [r.manager_name, r[column]])), `managers, view: ${column}`);
		const columns = ['completed', 'completed_late', 'in_batches', 'pushed', 'pushed_overdue'];
		same(Object.fromEntries(seen.tables.tidy.flatMap((r) => columns.map((c) => [`${r.manager_name} ${c}`, r[c]]))),
			Object.fromEntries((await rows(`SELECT manager_name, ${columns.map((c) => `sum(${c}) AS ${c}`)} FROM regcrm.tidy_up_daily WHERE account_id = :account AND day >= ${PERIOD(30)} GROUP BY manager_id, manager_name`))
				.flatMap((r) => columns.map((c) => [`${r.manager_name} ${c}`, r[c]]))), 'managers, view: tasks closed in one go, dates pushed');
	},
	'/rules/': async (seen) => {
		is(seen.tables.rules.length, (await one(`SELECT count(*) AS n FROM regcrm.rule_compliance WHERE account_id = :account`)).n, 'rules, view: every rule stands there');
		const views = await rows(`SELECT rule, sum(decided) AS decided, sum(late) AS late, sum(missed) AS missed, sum(breaches_at_once) AS breaches_at_once, sum(violations) AS violations,
			round(100.0 * sum(met) / nullif(sum(decided), 0), 1) AS compliance FROM regcrm.rule_compliance_daily WHERE account_id = :account AND day >= ${PERIOD(30)} GROUP BY rule`);
		for (const column of ['decided', 'late', 'missed', 'breaches_at_once', 'compliance', 'violations'])
			same(Object.fromEntries(seen.tables.rules.map((r) => [r.rule, r[column]])), Object.fromEntries(views.map((r) => [r.rule, r[column]])), `rules, view: ${column}`);
	},
	'/funnel/': async (seen) => {
		same(Object.fromEntries(seen.tables.funnel_table.map((r) => [r.stage_name, r.reached])), await record(`SELECT stage_name AS key, sum(reached) AS value FROM regcrm.funnel_daily WHERE account_id = :account AND day >= ${PERIOD(30)} GROUP BY 1`), 'funnel, view: reached');
		same(Object.fromEntries(seen.tables.stuck.map((r) => [r.deal_id, r.times_median])), await record(`SELECT deal_id AS key, times_median AS value FROM regcrm.stuck_deals WHERE account_id = :account`), 'funnel, view: the deals that are stuck');
		const l = await one(`SELECT count(*) AS losses, round(100.0 * count(*) FILTER (WHERE is_given_in_time) / count(*), 1) AS share FROM regcrm.lost_deals WHERE account_id = :account AND lost_day >= ${PERIOD(30)}`);
		is(seen.figures.losses, l.losses, 'funnel, view: losses');
		is(seen.figures.in_time_share, l.share, 'funnel, view: reasons given in time');
		same(Object.fromEntries(seen.charts.reasons.rows), await record(`SELECT coalesce(reason, 'причина не указана') AS key, sum(deals) AS value FROM regcrm.loss_reasons_daily
			WHERE account_id = :account AND day >= ${PERIOD(30)} GROUP BY 1`), 'funnel, view: reasons');
		same(Object.fromEntries(seen.tables.returns.map((r) => [r.pair_name, r.returns])), await record(`SELECT pair_name AS key, count(*) AS value FROM regcrm.stage_returns
			WHERE account_id = :account AND (at AT TIME ZONE 'Europe/Moscow')::date >= ${PERIOD(30)} GROUP BY 1`), 'funnel, view: returns');
	},
	'/response/': async (seen) => {
		const r = await one(`SELECT * FROM regcrm.response_time(:account) WHERE manager_id IS NULL`);
		is(seen.figures.within_15_share, r.within_15_share, 'response, view: share within fifteen minutes');
		is(seen.figures.median_seconds, r.median_minutes * 60, 'response, view: median', 3);
		is(seen.figures.p90_seconds, r.p90_minutes * 60, 'response, view: nine of ten', 3);
		same(Object.fromEntries(seen.charts.by_manager.rows), await record(`SELECT manager_name AS key, within_15_share AS value FROM regcrm.response_time(:account) WHERE manager_id IS NOT NULL`), 'response, view: share of each manager');
		same(Object.fromEntries(seen.charts.arrivals.rows), await record(`SELECT arrived_hour AS key, deals AS value FROM regcrm.response_by_hour(:account)`), 'response, view: arrivals by hour');
	},
	'/risk/': async (seen) => {
		const h = await one(`SELECT count(*) FILTER (WHERE health = 'broken') AS broken, count(*) FILTER (WHERE open_critical > 0) AS critical, count(*) FILTER (WHERE health = 'due') AS due,
			count(*) FILTER (WHERE health <> 'fine') AS listed FROM regcrm.deal_health WHERE account_id = :account`);
		is(seen.figures.broken, h.broken, 'risk, view: deals with open breaches');
		is(seen.figures.with_critical, h.critical, 'risk, view: with critical ones');
		is(seen.figures.due, h.due, 'risk, view: due soon');
		is(seen.tables.at_risk.length, h.listed, 'risk, view: the list');
		is(seen.tables.deadlines.length, (await one(`SELECT count(*) AS n FROM regcrm.upcoming_deadlines WHERE account_id = :account AND duty_of = 'manager' AND isfinite(due_at)`)).n, 'risk, view: deadlines');
	},
	'/deal/': async () => {
		// every deal's story and what is counted of its touches, page by page too many: in the views
		const lines = {};
		for (const r of await rows(`SELECT t.deal_id, t.kind, count(*) AS n FROM regcrm.deal_timeline t WHERE t.account_id = :account
			-- facts of deals that amoCRM does not show (any more) wait for their deal
			AND EXISTS (SELECT FROM regcrm.deal d WHERE d.account_id = t.account_id AND d.id = t.deal_id) GROUP BY 1, 2`)) lines[`${r.deal_id} ${r.kind}`] = r.n;
		same(lines, Object.fromEntries(Object.entries(truth.stories).flatMap(([id, s]) => Object.entries(s.lines).map(([k, n]) => [`${id} ${k}`, n]))), 'deal, truth: every line of every deal\'s story');
		const told = Object.entries(truth.stories).filter(([, s]) => s.told);
		const touches = await rows(`SELECT deal_id, touches, touches_before_contact FROM regcrm.deal_touches WHERE account_id = :account`);
		same(Object.fromEntries(touches.map((r) => [r.deal_id, r.touches])), Object.fromEntries(told.map(([id, s]) => [id, s.touches])), 'deal, truth: every deal\'s touches');
		same(Object.fromEntries(touches.map((r) => [r.deal_id, r.touches_before_contact ?? -1])), Object.fromEntries(told.map(([id, s]) => [id, s.touches_before_contact ?? -1])), 'deal, truth: and those before the contact');
	},
	'/regulation/': async (seen) => {
		const r = await one(`SELECT count(*) AS n FROM regcrm.regulation_text WHERE regulation = 'idrive'`);
		is(seen.figures.rules_in_force, r.n, 'regulation, view: rules');
		same(Object.fromEntries(seen.tables.regulation.map((x) => [`${x.rule} ${x.clause}`, 1])), Object.fromEntries((await rows(`SELECT rule, clause FROM regcrm.regulation_text WHERE regulation = 'idrive'`)).map((x) => [`${x.rule} ${x.clause}`, 1])), 'regulation, view: each with its clause');
		is(seen.moves, truth.pages['/regulation/'].moves, 'regulation, truth: legal moves');
	},
	'/sync/': async (seen) => {
		const s = await one(`SELECT to_char(known_until AT TIME ZONE 'Europe/Moscow', 'YYYY-MM-DD HH24:MI:SS') AS known, rows_read, requests, quarantined FROM regcrm.sync_accounts WHERE account_id = :account`);
		is(seen.figures.known_until, s.known, 'sync, view: known until');
		is(seen.shown.known_until, `${s.known.slice(8, 10)}.${s.known.slice(5, 7)}.${s.known.slice(0, 4)} ${s.known.slice(11, 16)}`, 'sync: written in the account\'s zone, wherever the reader is');
		for (const figure of ['rows_read', 'requests', 'quarantined']) is(seen.figures[figure], s[figure], `sync, view: ${figure}`);
		is(seen.states, 1, 'sync: the account\'s state is told once');
		await served(seen);
	}
};

for (const [good, what, why] of colours()) ok(good, what, why);

// ---- every page, at both widths ----

for (const [address, p] of Object.entries(PAGES)) {
	for (const size of Object.keys(WIDTHS)) {
		const page = await open(size, address);
		await page.screenshot({ path: path.join(shots, `${size}-${p.shot}.png`), fullPage: true });
		const seen = await read(page);
		await every(page, address, size, seen);
		for (const chart of p.charts) ok(seen.charts[chart], `${address} on a ${size}: there is the chart ${chart}`);
		for (const table of p.tables) ok(seen.tables[table]?.length > 0, `${address} on a ${size}: the table ${table} has rows`);
		ok(seen.text.includes(`данные на`), `${address} on a ${size}: it says up to when it knows`);
		against(seen, truth.pages[address], `${address} on a ${size}`);
		if (size === 'desktop') await checks[address](seen);
		await page.context().close();
	}
}

const all = (address) => truth.pages[address];

// thousands are set apart, decimals have a comma
{
	const page = await open('desktop', '/funnel/');
	const seen = await read(page);
	is(seen.shown.funnel_deals, String(all('/funnel/').figures.funnel_deals).replace(/\B(?=(\d{3})+$)/g, '\u00a0'), 'thousands are set apart');
	await page.context().close();
}

// ---- filters filter: what they leave is what happened there ----

for (const [address, size, choices, want] of truth.filters) {
	const page = await open(size, address);
	let seen;
	for (const [name, value] of Object.entries(choices)) seen = await choose(page, name, value);
	const where = `${address} with ${Object.entries(choices).map((c) => c.join(' = '))}`;
	against(seen, want, where);
	ok(page.troubles.length === 0, `${where}: no error while choosing`, page.troubles.join('\n'));
	await page.context().close();
}
{
	const page = await open('desktop', '/');
	const [, , { week }, want] = truth.filters[0];
	await choose(page, 'week', week);
	ok(page.url().includes(`week=${week}`), 'overview: the choice stands in the address');
	const again = await open('desktop', `/?week=${week}`);
	is((await read(again)).figures.violations, want.figures.violations, 'overview: the address brings the choice back');
	await again.context().close();
	const back = await choose(page, 'week', '');
	is(back.figures.violations, all('/').figures.violations, 'overview: the last seven days again');
	await page.context().close();
}
{
	const linked = await open('phone', '/rules/?rule=NEW-1');
	let seen = await read(linked);
	const of = all('/rules/').tables.rules.rows.find((r) => r.rule === 'NEW-1');
	is(seen.figures.rule_violations, of.violations, 'rules: a link to one rule, its breaches in truth');
	const rowsBefore = seen.tables.rule_violations.length;
	await linked.locator('[data-table="rule_violations"] input').fill('такого нет');
	seen = await read(linked);
	ok(rowsBefore > 0 && seen.empties.includes('rule_violations') && seen.text.includes('ничего не найдено'), 'rules: a search that finds nothing says so');
	ok(linked.troubles.length === 0, 'rules: no error while choosing', linked.troubles.join('\n'));
	await linked.context().close();
}
{
	// stories: some deals that broke much, some that broke nothing
	const stories = truth.stories;
	const broken = Object.keys(stories).sort((a, b) => stories[b].violations - stories[a].violations).slice(0, 2);
	const clean = Object.keys(stories).filter((id) => !stories[id].violations && stories[id].told && stories[id].lines.stage > 3).slice(0, 2);
	for (const id of [...broken, ...clean]) {
		const page = await open('phone', `/deal/?id=${id}`);
		const s = await page.evaluate(() => ({
			deal: document.querySelector('[data-story]')?.dataset.story,
			violations: Number(document.querySelector('[data-story]')?.dataset.violations),
			kinds: [...document.querySelectorAll('[data-kind]')].reduce((n, e) => ({ ...n, [e.dataset.kind]: (n[e.dataset.kind] ?? 0) + 1 }), {}),
			figures: Object.fromEntries([...document.querySelectorAll('[data-figure]')].map((e) => [e.dataset.figure, e.dataset.value === '' ? null : Number(e.dataset.value)])),
			lines: document.querySelectorAll('[data-line]').length,
			first: document.querySelector('[data-kind="created"] time')?.innerText
		}));
		is(s.deal, id, `deal ${id}: its story`);
		const told = stories[id];
		is(s.violations, told.violations, `deal ${id}, truth: its breaches stand in the story`);
		same(s.kinds, told.lines, `deal ${id}, truth: every line of its story, by kind`);
		is(s.first, told.created.slice(11), `deal ${id}, truth: when it was created, in the account's zone`);
		is(s.figures.deal_violations, told.violations, `deal ${id}, truth: breaches above the story`);
		is(s.figures.deal_touches, told.touches, `deal ${id}, truth: touches`);
		is(s.figures.deal_touches_before_contact ?? null, told.touches_before_contact, `deal ${id}, truth: touches before the contact`);
		is(s.lines, (await one(`SELECT count(*) AS n FROM regcrm.deal_story(:account, ${id})`)).n, `deal ${id}, view: every line of deal_story()`);
		ok(page.troubles.length === 0, `deal ${id}: no error`, page.troubles.join('\n'));
		await page.context().close();
	}
	const page = await open('desktop', '/deal/');
	await page.locator('.picker input').fill(clean[0]);
	await page.locator('.found button').first().click();
	await settle(page);
	is(await page.evaluate(() => document.querySelector('[data-story]')?.dataset.story), clean[0], 'deal: found by its number, its story opens');
	await page.getByLabel('только переходы и нарушения').check();
	ok(await page.evaluate(() => [...document.querySelectorAll('[data-line]')].every((l) => ['stage', 'created', 'violation', 'resolved', 'waived'].includes(l.dataset.kind))), 'deal: only moves and breaches, if one wants');
	await page.context().close();
	const none = await open('desktop', '/deal/?id=1');
	ok((await read(none)).empties.includes('story'), 'deal: a number that is no deal says so');
	await none.context().close();
}
{
	// a table sorts both ways
	const page = await open('desktop', '/rules/');
	const column = async () => (await read(page)).tables.rules.map((r) => r.violations);
	const head = page.locator('[data-table="rules"] th button', { hasText: 'Нарушений' });
	await head.click();
	const down = await column();
	await head.click();
	const up = await column();
	ok(down.every((v, i) => !i || v <= down[i - 1]) && up.every((v, i) => !i || v >= up[i - 1]) && down[0] > up[0], 'a table sorts both ways');
	await page.context().close();
	// the menu of a phone leads on
	const phone = await open('phone', '/');
	await phone.getByRole('button', { name: /Обзор/ }).click();
	await phone.getByRole('link', { name: 'Правила', exact: true }).click();
	await phone.waitForURL('**/rules/');
	await settle(phone);
	const seen = await read(phone);
	is(seen.figures.rule_violations, all('/rules/').figures.rule_violations, 'the menu of a phone leads to another page');
	ok(phone.troubles.length === 0, 'and no error on the way', phone.troubles.join('\n'));
	await phone.context().close();
}

await db.end();
await browser.close();
console.log(`1..${number}`);
process.exit(failures ? 1 : 0);
