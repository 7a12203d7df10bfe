// The dashboards in a real browser, as a reader meets them: every page on a desktop
// and on a phone, every figure against the views and, where the simulator knows it,
// against what really happened; filters filter; nothing is written to the console,
// nothing is fetched from elsewhere.  Speaks TAP.
//
// usage: node dashboards.mjs URL TRUTH.json SHOTS        (test/browser/run starts it)
//        node dashboards.mjs --empty URL SHOTS           of an account that has nothing
//
// The views are asked by SQL of its own, by the role that the dashboards read with;
// TRUTH.json is what truth.py tells.
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

// The regulation says how bad a rule's breach is; the truth says which was broken when.
const severity = await record(`SELECT rule AS key, severity AS value FROM regcrm.account_rules WHERE account_id = :account`);
const SEVERITIES = ['critical', 'major', 'minor', 'info'];
const ofSeverity = (byRule, s) => sum(Object.entries(byRule).filter(([rule]) => severity[rule] === s).map(([, n]) => n));
/** {"A|B|RULE": n} -> {"A|B": [critical, major, minor, info]} */
function bySeverity(counts) {
	const out = {};
	for (const [key, n] of Object.entries(counts)) {
		const parts = key.split('|');
		const rule = parts.pop();
		(out[parts.join('|')] ??= [0, 0, 0, 0])[SEVERITIES.indexOf(severity[rule])] += n;
	}
	return out;
}
const flat = (table) => Object.fromEntries(Object.entries(table).flatMap(([k, list]) => list.map((n, i) => [`${k} ${SEVERITIES[i]}`, n])));
const chartFlat = (chart, name = (x) => x) => flat(Object.fromEntries(chart.rows.map(([k, ...list]) => [name(k), list.map((v) => v ?? 0)])));
const MONTHS = ['янв', 'фев', 'мар', 'апр', 'мая', 'июн', 'июл', 'авг', 'сен', 'окт', 'ноя', 'дек'];
const dayName = (iso) => `${Number(iso.slice(8, 10))}\u00a0${MONTHS[Number(iso.slice(5, 7)) - 1]}`;
const AS_OF = `(SELECT as_of FROM regcrm.account_now WHERE account_id = :account)`;
const PERIOD = (days) => `((${AS_OF} AT TIME ZONE 'Europe/Moscow')::date - ${days - 1})`;

/** Each page's own figures: what the simulator knows, else what the view says. */
const checks = {
	'/': async (seen) => {
		const w = truth.week;
		is(seen.figures.violations, w.violations, 'overview, truth: breaches of the last seven days');
		is(seen.before.violations, w.violations_before, 'overview, truth: breaches of the seven days before');
		is(seen.figures.critical, ofSeverity(w.by_rule, 'critical'), 'overview, truth: critical ones');
		is(seen.before.critical, ofSeverity(w.by_rule_before, 'critical'), 'overview, truth: critical ones the week before');
		ok(seen.text.includes(`из них робота: ${w.of_bot}`), 'overview, truth: the robot\'s share', seen.text.slice(0, 400));
		same(chartFlat(seen.charts.who), flat(bySeverity(w.who_rule)), 'overview, truth: who broke how much, by severity');
		const table = seen.tables.who_what;
		const key = (r) => `${r.who}|${r.rule}`;
		same(Object.fromEntries(table.map((r) => [key(r), r.violations])), w.who_rule, 'overview, truth: who broke what');
		same(Object.fromEntries(table.map((r) => [key(r), r.deals])), w.who_rule_deals, 'overview, truth: in how many deals');
		same(Object.fromEntries(table.map((r) => [key(r), r.previous_violations])),
			Object.fromEntries(Object.keys(w.who_rule).map((k) => [k, w.who_rule_before[k] ?? 0])), 'overview, truth: how often the week before');
		const weeks = bySeverity(truth.weeks);
		same(chartFlat(seen.charts.by_week), flat(Object.fromEntries(Object.entries(weeks).map(([k, v]) => [dayName(k), v]))), 'overview, truth: breaches by week');
		const open = await one(`SELECT count(*) AS n, count(*) FILTER (WHERE breached_at > ${AS_OF} - interval '7 days') AS week FROM regcrm.open_violations WHERE account_id = :account`);
		is(seen.figures.still_open, open.week, 'overview, view: still open of this week');
		is(seen.tables.open_now.length, open.n, 'overview, view: all that is still open');
		ok(seen.tables.open_now.every((r) => truth.deals_broken[r.deal_id]), 'overview, truth: what is open was broken in truth');
		const c = await one(`SELECT sum(met) AS met, sum(decided) AS decided, round(100.0 * sum(met) / sum(decided), 1) AS compliance
			FROM regcrm.manager_scorecard WHERE account_id = :account AND day >= ${PERIOD(7)}`);
		is(seen.figures.compliance, c.compliance, 'overview, view: compliance');
		ok(seen.text.replaceAll('\u00a0', ' ').includes(`${String(c.met).replace(/\B(?=(\d{3})+$)/g, ' ')} из ${String(c.decided).replace(/\B(?=(\d{3})+$)/g, ' ')}`), 'overview, view: its numerator and denominator');
		same(Object.fromEntries(seen.charts.compliance_by_week.rows),
			Object.fromEntries((await rows(`SELECT week, round(100.0 * sum(met) / sum(decided), 1) AS c FROM regcrm.manager_weekly WHERE account_id = :account GROUP BY week`)).map((r) => [dayName(r.week), r.c])),
			'overview, view: compliance by week');
		is((seen.tables.due_soon ?? []).length, (await one(`SELECT count(*) AS n FROM regcrm.due_soon WHERE account_id = :account`)).n, 'overview, view: due within two hours');
	},
	'/managers/': async (seen) => {
		const m = truth.managers;
		const byManager = {};
		for (const [k, n] of Object.entries(m.by_manager_rule)) add(byManager, k.split('|')[0], n);
		const critical = {};
		for (const [k, n] of Object.entries(m.by_manager_rule)) if (severity[k.split('|')[1]] === 'critical') add(critical, k.split('|')[0], n);
		is(seen.figures.critical, ofSeverity(m.by_rule, 'critical'), 'managers, truth: critical breaches');
		ok(seen.text.replaceAll('\u00a0', ' ').includes(`всего нарушений ${sum(Object.values(byManager))}`), 'managers, truth: all breaches');
		const cards = seen.tables.cards;
		same(Object.fromEntries(cards.map((r) => [r.manager_name, r.late + r.missed + r.breaches_at_once])), byManager, 'managers, truth: late + not done + forbidden of each manager are his breaches');
		same(Object.fromEntries(cards.map((r) => [r.manager_name, r.critical])), critical, 'managers, truth: critical breaches of each');
		const views = await rows(`SELECT manager_name, sum(met) AS met, sum(late) AS late, sum(missed) AS missed, sum(decided) AS decided, sum(cancelled) AS cancelled,
			sum(pending + waiting) AS running, sum(breaches_at_once) AS breaches_at_once, round(100.0 * sum(met) / nullif(sum(decided), 0), 1) AS compliance
			FROM regcrm.manager_scorecard WHERE account_id = :account AND day >= ${PERIOD(30)} GROUP BY manager_name`);
		for (const column of ['met', 'late', 'missed', 'decided', 'cancelled', 'running', 'breaches_at_once', 'compliance'])
			same(Object.fromEntries(cards.map((r) => [r.manager_name, r[column]])), Object.fromEntries(views.map((r) => [r.manager_name, r[column]])), `managers, view: ${column}`);
		for (const column of ['late', 'missed']) is(seen.figures[column], sum(views.map((r) => r[column])), `managers, view: ${column} in all`);
		is(seen.figures.compliance, Math.round((1000 * sum(views.map((r) => r.met))) / sum(views.map((r) => r.decided))) / 10, 'managers, view: compliance in all');
		same(Object.fromEntries(seen.charts.broken.rows.map(([k, late, missed]) => [k, (late ?? 0) + (missed ?? 0)])),
			Object.fromEntries(views.map((r) => [r.manager_name, r.late + r.missed])), 'managers, view: the bars');
		same(Object.fromEntries(seen.tables.by_rule.map((r) => [r.rule, r.violations])), m.by_rule, 'managers, truth: breaches of each rule');
		same(Object.fromEntries(seen.tables.by_rule.map((r) => [r.rule, r.deals])), m.by_rule_deals, 'managers, truth: in how many deals');
		is(seen.tables.listed.length, sum(Object.values(byManager)), 'managers, truth: the list is whole');
		same(chartFlat(seen.charts.weekly_violations), flat(Object.fromEntries(Object.entries(bySeverity(truth.weeks_of_managers)).map(([k, v]) => [dayName(k), v]))), 'managers, truth: breaches by week');
		same(Object.fromEntries(seen.tables.tidy.flatMap((r) => ['completed', 'completed_late', 'in_batches', 'pushed', 'pushed_overdue'].map((c) => [`${r.manager_name} ${c}`, r[c]]))),
			Object.fromEntries((await rows(`SELECT manager_name, sum(completed) AS completed, sum(completed_late) AS completed_late, sum(in_batches) AS in_batches, sum(pushed) AS pushed, sum(pushed_overdue) AS pushed_overdue
				FROM regcrm.tidy_up_daily WHERE account_id = :account AND day >= ${PERIOD(30)} GROUP BY manager_id, manager_name`))
				.flatMap((r) => ['completed', 'completed_late', 'in_batches', 'pushed', 'pushed_overdue'].map((c) => [`${r.manager_name} ${c}`, r[c]]))), 'managers, view: tasks closed in one go, dates pushed');
	},
	'/rules/': async (seen) => {
		is(seen.figures.rule_violations, sum(Object.values(truth.rules)), 'rules, truth: breaches');
		is(seen.figures.rule_critical, ofSeverity(truth.rules, 'critical'), 'rules, truth: critical ones');
		is(seen.figures.broken_rules, Object.keys(truth.rules).length, 'rules, truth: rules that were broken');
		same(Object.fromEntries(seen.tables.rules.map((r) => [r.rule, r.violations])), truth.rules, 'rules, truth: breaches of each rule');
		const views = await rows(`SELECT rule, decided, late, missed, breaches_at_once, compliance, violations FROM regcrm.rule_compliance WHERE account_id = :account`);
		is(seen.tables.rules.length, views.length, 'rules, view: every rule stands there');
		for (const column of ['decided', 'late', 'missed', 'breaches_at_once', 'compliance'])
			same(Object.fromEntries(seen.tables.rules.map((r) => [r.rule, r[column]])), Object.fromEntries(views.map((r) => [r.rule, r[column]])), `rules, view: ${column}`);
		is(seen.figures.never_arisen, views.filter((r) => r.decided === 0 && r.violations === 0).length, 'rules, view: rules that never arose');
		is(sum(seen.charts.most_broken.rows.flatMap((r) => r.slice(1)).map((v) => v ?? 0)), sum(Object.values(truth.rules).sort((a, b) => b - a).slice(0, 15)), 'rules, truth: the fifteen most broken');
		same(chartFlat(seen.charts.rule_weeks), flat(Object.fromEntries(Object.entries(bySeverity(truth.weeks)).map(([k, v]) => [dayName(k), v]))), 'rules, truth: by week');
		is(seen.tables.rule_violations.length, sum(Object.values(truth.rules)), 'rules, truth: the list is whole');
	},
	'/funnel/': async (seen) => {
		const f = truth.funnel;
		is(seen.figures.funnel_deals, f.deals, 'funnel, truth: deals created');
		for (const figure of ['in_work', 'won', 'lost']) is(seen.figures[figure], f[figure], `funnel, truth: ${figure}`);
		for (const column of ['reached', 'now_here', 'won_after'])
			same(Object.fromEntries(seen.tables.funnel_table.map((r) => [r.stage_name, r[column]])), f[column], `funnel, truth: ${column} of each stage`);
		same(Object.fromEntries(seen.charts.funnel.rows), f.reached, 'funnel, truth: the bars');
		same(Object.fromEntries(seen.tables.norms.map((r) => [r.stage_name, r.finished_visits])), Object.fromEntries(Object.entries(truth.norms).map(([k, v]) => [k, v.finished])), 'funnel, truth: finished visits');
		// the view rounds to a hundredth of an hour
		same(Object.fromEntries(seen.tables.norms.map((r) => [r.stage_name, r.median_seconds])), Object.fromEntries(Object.entries(truth.norms).map(([k, v]) => [k, v.median])), 'funnel, truth: half of the visits end within', 18.5);
		same(Object.fromEntries(seen.tables.norms.map((r) => [r.stage_name, r.p90_seconds])), Object.fromEntries(Object.entries(truth.norms).map(([k, v]) => [k, v.p90])), 'funnel, truth: nine of ten end within', 18.5);
		same(Object.fromEntries(seen.tables.norms.map((r) => [r.stage_name, r.now_here])), Object.fromEntries(Object.keys(truth.norms).map((k) => [k, f.now_here[k]])), 'funnel, truth: how many stand there now');
		const stuck = await rows(`SELECT deal_id AS key, round(times_median, 4) AS value FROM regcrm.stuck_deals WHERE account_id = :account`);
		same(Object.fromEntries(seen.tables.stuck.map((r) => [r.deal_id, 1])), Object.fromEntries(stuck.map((r) => [r.key, 1])), 'funnel, view: the deals that are stuck');
		const l = await one(`SELECT count(*) AS losses, round(100.0 * count(*) FILTER (WHERE is_given_in_time) / count(*), 1) AS share FROM regcrm.lost_deals WHERE account_id = :account AND lost_day >= ${PERIOD(30)}`);
		is(seen.figures.losses, l.losses, 'funnel, view: losses');
		is(seen.figures.in_time_share, l.share, 'funnel, view: reasons given in time');
		same(Object.fromEntries(seen.charts.reasons.rows), await record(`SELECT coalesce(reason, 'причина не указана') AS key, count(*) AS value FROM regcrm.lost_deals
			WHERE account_id = :account AND lost_day >= ${PERIOD(30)} GROUP BY 1`), 'funnel, view: reasons');
		same(Object.fromEntries(seen.tables.returns.map((r) => [r.pair_name, r.returns])), await record(`SELECT pair_name AS key, count(*) AS value FROM regcrm.stage_returns
			WHERE account_id = :account AND (at AT TIME ZONE 'Europe/Moscow')::date >= ${PERIOD(30)} GROUP BY 1`), 'funnel, view: returns');
	},
	'/response/': async (seen) => {
		const r = truth.response;
		is(seen.figures.untouched, r.untouched, 'response, truth: deals nobody touched');
		is(seen.figures.median_seconds, r.median, 'response, truth: median');
		is(seen.figures.p90_seconds, r.p90, 'response, truth: nine of ten');
		is(seen.figures.within_15_share, Math.round((1000 * r.within_15) / r.counted_15) / 10, 'response, truth: share within fifteen minutes');
		ok(seen.text.replaceAll('\u00a0', ' ').includes(`${String(r.within_15).replace(/\B(?=(\d{3})+$)/g, ' ')} из ${String(r.counted_15).replace(/\B(?=(\d{3})+$)/g, ' ')} заявок`), 'response, truth: its numerator and denominator', seen.text.slice(0, 500));
		same(Object.fromEntries(seen.charts.arrivals.rows), Object.fromEntries(Object.entries(r.by_hour).map(([h, x]) => [h, x.deals])), 'response, truth: arrivals by hour');
		same(Object.fromEntries(seen.charts.by_hour.rows.map(([h, median]) => [h, median])), Object.fromEntries(Object.entries(r.by_hour).map(([h, x]) => [h, x.median === null ? 0 : x.median / 60])), 'response, truth: median by hour, in minutes', 0.51);
		same(Object.fromEntries(seen.charts.spread.rows), r.spread, 'response, truth: spread');
		same(Object.fromEntries(seen.tables.by_manager_table.map((x) => [x.manager_name, x.deals])), r.by_manager, 'response, truth: deals of each manager');
		same(Object.fromEntries(seen.charts.by_manager.rows), await record(`SELECT manager_name AS key, round(100.0 * count(*) FILTER (WHERE is_within_15) / nullif(count(is_within_15), 0), 1) AS value
			FROM regcrm.first_response WHERE account_id = :account AND manager_id IS NOT NULL GROUP BY 1`), 'response, view: share of each manager');
		is((seen.tables.waiting ?? []).length, r.waiting, 'response, truth: who waits');
	},
	'/risk/': async (seen) => {
		ok(seen.text.includes(`из ${truth.risk.open_deals} открытых`), 'risk, truth: open deals', seen.text.slice(0, 400));
		is(seen.figures.without_task, truth.risk.without_task, 'risk, truth: open deals without a task');
		is(seen.tables.no_task.length, truth.risk.without_task, 'risk, truth: their list');
		const h = await one(`SELECT count(*) FILTER (WHERE health = 'broken') AS broken, count(*) FILTER (WHERE open_critical > 0) AS critical, count(*) FILTER (WHERE health = 'due') AS due,
			count(*) FILTER (WHERE health <> 'fine') AS listed FROM regcrm.deal_health WHERE account_id = :account`);
		is(seen.figures.broken, h.broken, 'risk, view: deals with open breaches');
		is(seen.figures.with_critical, h.critical, 'risk, view: with critical ones');
		is(seen.figures.due, h.due, 'risk, view: due soon');
		is(seen.tables.at_risk.length, h.listed, 'risk, view: the list');
		ok(seen.tables.at_risk.filter((r) => r.open_violations > 0).every((r) => truth.deals_broken[r.deal_id]), 'risk, truth: what is broken was broken in truth');
		is(sum(seen.charts.risk_stages.rows.flatMap((r) => r.slice(1))), h.broken, 'risk, view: the bars');
		is(seen.figures.closed_broken, (await one(`SELECT count(DISTINCT deal_id) AS n FROM regcrm.open_violations v WHERE account_id = :account AND NOT EXISTS (SELECT FROM regcrm.deal_health h WHERE h.account_id = v.account_id AND h.deal_id = v.deal_id)`)).n, 'risk, view: closed deals with something to put right');
		is(seen.tables.deadlines.length, (await one(`SELECT count(*) AS n FROM regcrm.upcoming_deadlines WHERE account_id = :account AND duty_of = 'manager' AND isfinite(due_at)`)).n, 'risk, view: deadlines');
	},
	'/deal/': async (seen) => {
		is(seen.figures.deal_violations, Math.max(...Object.values(truth.deals_broken)), 'deal, truth: at first the one with most breaches');
	},
	'/regulation/': async (seen) => {
		const r = await one(`SELECT count(*) AS n, count(*) FILTER (WHERE basis <> 'stated') AS ours FROM regcrm.regulation_text WHERE regulation = 'idrive'`);
		is(seen.figures.rules_in_force, r.n, 'regulation, view: rules');
		is(seen.figures.not_stated, r.ours, 'regulation, view: rules not stated');
		is(seen.tables.regulation.length, r.n, 'regulation, view: every rule stands there');
		same(Object.fromEntries(seen.tables.regulation.map((x) => [`${x.rule} ${x.clause}`, 1])), Object.fromEntries((await rows(`SELECT rule, clause FROM regcrm.regulation_text WHERE regulation = 'idrive'`)).map((x) => [`${x.rule} ${x.clause}`, 1])), 'regulation, view: each with its clause');
	},
	'/sync/': async (seen) => {
		const s = await one(`SELECT to_char(known_until AT TIME ZONE 'Europe/Moscow', 'YYYY-MM-DD HH24:MI:SS') AS known, rows_read, requests, quarantined FROM regcrm.sync_accounts WHERE account_id = :account`);
		is(seen.figures.known_until, s.known, 'sync, view: known until');
		is(seen.shown.known_until, `${s.known.slice(8, 10)}.${s.known.slice(5, 7)}.${s.known.slice(0, 4)} ${s.known.slice(11, 16)}`, 'sync: written in the account\'s zone, wherever the reader is');
		ok(truth.now - truth.as_of < 60, 'sync, truth: known up to the simulated now', `${truth.now - truth.as_of} s behind`);
		for (const figure of ['rows_read', 'requests', 'quarantined']) is(seen.figures[figure], s[figure], `sync, view: ${figure}`);
		is(seen.states, 1, 'sync: the account\'s state is told once');
		same(Object.fromEntries(seen.tables.parts.map((r) => [r.entity, r.rows_read])), await record(`SELECT entity AS key, rows_read AS value FROM regcrm.sync_status WHERE account_id = :account`), 'sync, view: what was read of each kind');
		is(seen.tables.gaps.length, (await one(`SELECT count(*) AS n FROM regcrm.mapping_gaps WHERE account_id = :account`)).n, 'sync, view: gaps');
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
		if (size === 'desktop') await checks[address](seen);
		await page.context().close();
	}
}

// thousands are set apart, decimals have a comma
{
	const page = await open('desktop', '/funnel/');
	const seen = await read(page);
	is(seen.shown.funnel_deals, String(truth.funnel.deals).replace(/\B(?=(\d{3})+$)/g, '\u00a0'), 'thousands are set apart');
	await page.context().close();
}

// ---- filters filter ----

{
	const page = await open('desktop', '/');
	const weeks = [...new Set(Object.keys(truth.weeks).map((k) => k.split('|')[0]))].sort();
	const week = weeks[1];
	const seen = await choose(page, 'week', week);
	const of = Object.fromEntries(Object.entries(truth.who_weeks).filter(([k]) => k.startsWith(week)).map(([k, n]) => [k.split('|').slice(1).join('|'), n]));
	is(seen.figures.violations, sum(Object.values(of)), 'overview: a week chosen, its breaches in truth');
	same(chartFlat(seen.charts.who), flat(bySeverity(of)), 'overview: a week chosen, who broke how much in truth');
	const before = Object.fromEntries(Object.entries(truth.weeks).filter(([k]) => k.startsWith(weeks[0])));
	is(seen.before.violations, sum(Object.values(before)), 'overview: a week chosen, the breaches of the week before in truth');
	const w = await one(`SELECT round(100.0 * sum(met) / sum(decided), 1) AS c FROM regcrm.manager_weekly WHERE account_id = :account AND week = '${week}'`);
	is(seen.figures.compliance, w.c, 'overview: a week chosen, its compliance in the view');
	ok(page.url().includes(`week=${week}`), 'overview: the choice stands in the address');
	const again = await open('desktop', `/?week=${week}`);
	is((await read(again)).figures.violations, seen.figures.violations, 'overview: the address brings the choice back');
	await again.context().close();
	const back = await choose(page, 'week', '');
	is(back.figures.violations, truth.week.violations, 'overview: the last seven days again');
	ok(page.troubles.length === 0, 'overview: no error while choosing', page.troubles.join('\n'));
	await page.context().close();
}
{
	const page = await open('phone', '/managers/');
	const { id, name } = await one(`SELECT id, name FROM regcrm.manager WHERE account_id = :account AND name = 'Максим Чудов'`);
	const seen = await choose(page, 'manager', id);
	const of = Object.fromEntries(Object.entries(truth.managers.by_manager_rule).filter(([k]) => k.startsWith(name)).map(([k, n]) => [k.split('|')[1], n]));
	is(seen.tables.listed.length, sum(Object.values(of)), 'managers: one chosen, his breaches in truth');
	ok(seen.tables.listed.every((r) => r.manager_name === name), 'managers: one chosen, nobody else is listed');
	same(Object.fromEntries(seen.tables.by_rule.map((r) => [r.rule, r.violations])), of, 'managers: one chosen, his rules in truth');
	is(seen.tables.cards.length, 1, 'managers: one chosen, one card');
	const seven = await choose(page, 'days', 7);
	const v = await one(`SELECT count(*) AS n FROM regcrm.violations WHERE account_id = :account AND counts AND manager_id = ${id} AND breached_day >= ${PERIOD(7)}`);
	is((seven.tables.listed ?? []).length, v.n, 'managers: and seven days');
	ok(page.troubles.length === 0, 'managers: no error while choosing', page.troubles.join('\n'));
	await page.context().close();
}
{
	const page = await open('desktop', '/rules/');
	let seen = await choose(page, 'severity', 'critical');
	is(seen.figures.rule_violations, ofSeverity(truth.rules, 'critical'), 'rules: critical ones chosen, in truth');
	ok(seen.tables.rules.every((r) => severity[r.rule] === 'critical'), 'rules: critical ones chosen, no other listed');
	seen = await choose(page, 'severity', '');
	seen = await choose(page, 'whose', 'bot');
	const bot = await record(`SELECT rule AS key, 1 AS value FROM regcrm.account_rules WHERE account_id = :account AND duty_of = 'bot'`);
	is(seen.figures.rule_violations, sum(Object.entries(truth.rules).filter(([r]) => bot[r]).map(([, n]) => n)), 'rules: the robot\'s chosen, in truth');
	seen = await choose(page, 'whose', '');
	seen = await choose(page, 'stage', 'messaging');
	const stage = await record(`SELECT rule AS key, 1 AS value FROM regcrm.account_rules WHERE account_id = :account AND stage = 'messaging'`);
	same(Object.fromEntries(seen.tables.rules.map((r) => [r.rule, 1])), stage, 'rules: a stage chosen, its rules');
	await page.context().close();
	const linked = await open('phone', '/rules/?rule=NEW-1');
	seen = await read(linked);
	is(seen.figures.rule_violations, truth.rules['NEW-1'], 'rules: a link to one rule, its breaches in truth');
	const rowsBefore = seen.tables.rule_violations.length;
	await linked.locator('[data-table="rule_violations"] input').fill('такого нет');
	seen = await read(linked);
	ok(rowsBefore > 0 && seen.empties.includes('rule_violations') && seen.text.includes('ничего не найдено'), 'rules: a search that finds nothing says so');
	ok(linked.troubles.length === 0, 'rules: no error while choosing', linked.troubles.join('\n'));
	await linked.context().close();
}
{
	const page = await open('desktop', '/funnel/');
	const seen = await choose(page, 'days', 7);
	const v = await one(`SELECT sum(deals) AS n FROM regcrm.funnel_daily WHERE account_id = :account AND day >= ${PERIOD(7)} AND stage = 'new'`);
	is(seen.figures.funnel_deals, v.n, 'funnel: seven days chosen');
	await page.context().close();
}
{
	const page = await open('desktop', '/response/');
	const { id, name } = await one(`SELECT id, name FROM regcrm.manager WHERE account_id = :account AND name = 'Анна Белова'`);
	const seen = await choose(page, 'manager', id);
	is(sum(seen.charts.arrivals.rows.map((r) => r[1])), truth.response.by_manager[name], 'response: a manager chosen, her deals in truth');
	is(seen.tables.by_manager_table.length, 1, 'response: a manager chosen, nobody else is listed');
	await page.context().close();
}
{
	const page = await open('desktop', '/risk/');
	const seen = await choose(page, 'stage', 'meeting');
	ok(seen.tables.no_task.length > 0 && seen.tables.no_task.every((r) => r.stage_name === 'Встреча назначена'), 'risk: a stage chosen, no other listed');
	is(seen.tables.no_task.length, (await one(`SELECT count(*) AS n FROM regcrm.deals_without_task WHERE account_id = :account AND stage = 'meeting'`)).n, 'risk: a stage chosen, as in the view');
	await page.context().close();
}
{
	const page = await open('phone', '/regulation/');
	const seen = await choose(page, 'stage', 'won');
	is(seen.tables.regulation.length, (await one(`SELECT count(*) AS n FROM regcrm.regulation_text WHERE regulation = 'idrive' AND stage = 'won'`)).n, 'regulation: a stage chosen');
	await page.context().close();
}
{
	// stories: some deals that broke much, some that broke nothing
	const broken = Object.entries(truth.deals_broken).sort((a, b) => b[1] - a[1]).slice(0, 2).map(([id]) => id);
	const clean = Object.keys(truth.stories).filter((id) => !truth.deals_broken[id] && truth.stories[id].moves > 3).slice(0, 2);
	for (const id of [...broken, ...clean]) {
		const page = await open('phone', `/deal/?id=${id}`);
		const s = await page.evaluate(() => ({
			deal: document.querySelector('[data-story]')?.dataset.story,
			violations: Number(document.querySelector('[data-story]')?.dataset.violations),
			moves: document.querySelectorAll('[data-kind="stage"]').length,
			lines: document.querySelectorAll('[data-line]').length,
			first: document.querySelector('[data-kind="created"] time')?.innerText
		}));
		is(s.deal, id, `deal ${id}: its story`);
		is(s.violations, truth.deals_broken[id] ?? 0, `deal ${id}, truth: its breaches stand in the story`);
		is(s.moves, truth.stories[id].moves, `deal ${id}, truth: so do its moves`);
		is(s.first, truth.stories[id].created.slice(11), `deal ${id}, truth: when it was created, in the account's zone`);
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
	is(seen.figures.rule_violations, sum(Object.values(truth.rules)), 'the menu of a phone leads to another page');
	ok(phone.troubles.length === 0, 'and no error on the way', phone.troubles.join('\n'));
	await phone.context().close();
}

await db.end();
await browser.close();
console.log(`1..${number}`);
process.exit(failures ? 1 : 0);
