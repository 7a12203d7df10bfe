// The colours of the dashboards: told apart with every kind of colour vision, and
// words readable on them.  Pure arithmetic; printed by dashboards.mjs as tests.
import { BEFORE, OUTCOME, PLAIN, SEVERITY, outcomes } from '../../dashboards/components/palette.js';

const channel = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const linear = (hex) => [1, 3, 5].map((i) => channel(parseInt(hex.slice(i, i + 2), 16) / 255));
const luminance = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;

// Machado, Oliveira, Fernandes 2009: the whole of each deficiency, on linear light
const VISION = {
	normal: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
	protanopia: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
	deuteranopia: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
	tritanopia: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
};
const seen = (rgb, m) => m.map((row) => Math.min(1, Math.max(0, row[0] * rgb[0] + row[1] * rgb[1] + row[2] * rgb[2])));

function lab([r, g, b]) {
	const f = (t) => (t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116);
	const x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047);
	const y = f(0.2126 * r + 0.7152 * g + 0.0722 * b);
	const z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883);
	return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}
const distance = (a, b, m) => Math.hypot(...lab(seen(linear(a), m)).map((v, i) => v - lab(seen(linear(b), m))[i]));
const contrast = (a, b) => {
	const [x, y] = [luminance(linear(a)), luminance(linear(b))].sort((p, q) => q - p);
	return (x + 0.05) / (y + 0.05);
};

/** [[good, what, why]] */
export function colours() {
	const out = [];
	const sets = {
		severity: Object.values(SEVERITY).map((s) => s.color),
		outcome: Object.values(OUTCOME).map((s) => s.color),
		'plain and before': [PLAIN, BEFORE]
	};
	for (const [name, list] of Object.entries(sets)) {
		for (const [vision, m] of Object.entries(VISION)) {
			let least = Infinity;
			for (let i = 0; i < list.length; i++) for (let j = 0; j < i; j++) least = Math.min(least, distance(list[i], list[j], m));
			out.push([least >= 20, `colours of ${name} are told apart: ${vision}`, `the nearest two are ${least.toFixed(1)} apart`]);
		}
	}
	const inks = [...Object.values(SEVERITY).map((s) => [s.text, s.color]), ...outcomes().map((s) => [s.ink, s.color])];
	const worst = Math.min(...inks.map(([ink, ground]) => contrast(ink, ground)));
	out.push([worst >= 4.5, 'words on the colours are readable', `contrast ${worst.toFixed(2)}`]);
	return out;
}
