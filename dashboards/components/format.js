// How figures, durations and moments are written, in one place.
//
// Moments come from the sources as text in the account's time zone
// ("2026-03-31 23:49:55"), so that neither the machine that builds the site nor
// the reader's browser shifts them.

const NBSP = '\u00a0';
const NONE = '—';
const MONTHS = ['янв', 'фев', 'мар', 'апр', 'мая', 'июн', 'июл', 'авг', 'сен', 'окт', 'ноя', 'дек'];
const WEEKDAYS = ['вс', 'пн', 'вт', 'ср', 'чт', 'пт', 'сб'];

const absent = (v) => v === null || v === undefined || v === '' || Number.isNaN(v);

/** 12345.6 -> "12 345,6": thousands apart, a decimal comma. */
export function num(v, digits = 0) {
	if (absent(v)) return NONE;
	const [whole, part] = Math.abs(Number(v)).toFixed(digits).split('.');
	const grouped = whole.replace(/\B(?=(\d{3})+$)/g, NBSP);
	const sign = Number(v) < 0 && Number(Math.abs(v).toFixed(digits)) !== 0 ? '−' : '';
	return sign + grouped + (part ? ',' + part : '');
}

/** 97.93 -> "97,9 %" */
export const pct = (v, digits = 1) => (absent(v) ? NONE : num(v, digits) + NBSP + '%');

/** A change: "+3", "−2", "0". */
export const delta = (v, digits = 0) => (absent(v) ? NONE : (Number(v) > 0 ? '+' : '') + num(v, digits));

/** Seconds -> "2 д 3 ч", "1 ч 5 мин", "45 с": the two largest units. */
export function dur(seconds) {
	if (absent(seconds)) return NONE;
	const sign = Number(seconds) <= -1 ? '−' : '';
	const s = Math.floor(Math.abs(Number(seconds)));
	if (s < 60) return sign + s + NBSP + 'с';
	const units = [
		[Math.floor(s / 86400), 'д'],
		[Math.floor(s / 3600) % 24, 'ч'],
		[Math.floor(s / 60) % 60, 'мин']
	];
	const first = units.findIndex(([n]) => n > 0);
	return (
		sign +
		units
			.slice(first, first + 2)
			.filter(([n]) => n > 0)
			.map(([n, unit]) => num(n) + NBSP + unit)
			.join(' ')
	);
}

/** "2026-03-31 23:49:55" -> "31.03.2026 23:49" */
export function when(text) {
	if (absent(text)) return NONE;
	const m = /^(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d))?/.exec(text);
	if (!m) return String(text);
	return `${m[3]}.${m[2]}.${m[1]}` + (m[4] ? ` ${m[4]}:${m[5]}` : '');
}

/** "2026-03-31…" -> "31 мар" */
export function day(text) {
	if (absent(text)) return NONE;
	const m = /^(\d{4})-(\d\d)-(\d\d)/.exec(text);
	return m ? `${Number(m[3])}${NBSP}${MONTHS[Number(m[2]) - 1]}` : String(text);
}

/** "2026-03-31…" -> "вт, 31 мар" */
export function weekday(text) {
	if (absent(text)) return NONE;
	return `${WEEKDAYS[new Date(String(text).slice(0, 10) + 'T00:00:00Z').getUTCDay()]}, ${day(text)}`;
}

/** The Monday of a week -> "30 мар – 5 апр" */
export function week(monday) {
	if (absent(monday)) return NONE;
	const end = new Date(String(monday).slice(0, 10) + 'T00:00:00Z');
	end.setUTCDate(end.getUTCDate() + 6);
	return `${day(monday)}${NBSP}– ${day(end.toISOString())}`;
}

/** plural(3, 'сделка', 'сделки', 'сделок') -> "3 сделки" */
export function plural(n, one, few, many) {
	const ten = Math.abs(n) % 10;
	const hundred = Math.abs(n) % 100;
	const word = ten === 1 && hundred !== 11 ? one : ten >= 2 && ten <= 4 && (hundred < 12 || hundred > 14) ? few : many;
	return num(n) + NBSP + word;
}

const KINDS = { num, pct, delta, dur, when, day, weekday, week };

/** A value at an axis: without the nought behind the comma. */
export function tick(v, kind) {
	if (kind === 'pct') return pct(v, Number.isInteger(v) ? 0 : 1);
	if (kind === 'num1' || kind === 'num') return num(v, Number.isInteger(v) ? 0 : 1);
	return show(v, kind);
}

/** The text of a value of a kind: num, num1, pct, delta, dur, when, day, weekday, week, else as it is. */
export function show(v, kind) {
	if (kind === 'num1') return num(v, 1);
	if (KINDS[kind]) return KINDS[kind](v);
	if (typeof v === 'boolean') return v ? 'да' : 'нет';
	return absent(v) ? NONE : String(v);
}
