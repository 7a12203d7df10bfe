// One colour, one meaning, on every page; told apart with any kind of colour
// vision (severity also runs from dark to light; a word or figure always stands
// beside the colour).

/** How bad a breach is: warm, the darker the worse. */
export const SEVERITY = {
	critical: { name: 'критическое', color: '#8b0a24', text: '#ffffff' },
	major: { name: 'серьёзное', color: '#d95f0e', text: '#ffffff' },
	minor: { name: 'мелкое', color: '#f4bc4a', text: '#3b2a00' },
	info: { name: 'к сведению', color: '#b8c0c9', text: '#1f2933' }
};
export const SEVERITIES = Object.keys(SEVERITY);

/** What became of a duty: cold; blue is kept, violet is not. */
export const OUTCOME = {
	met: { name: 'в срок', color: '#2b7bba' },
	late: { name: 'с опозданием', color: '#b49ad6' },
	missed: { name: 'не сделано', color: '#54278f' }
};

/** Amounts without a judgement, and what they are compared with. */
export const PLAIN = '#4b7f8c';
export const BEFORE = '#c9d3da';

export const severities = (keys = SEVERITIES) =>
	keys.map((key) => ({ key, name: SEVERITY[key].name, color: SEVERITY[key].color, ink: SEVERITY[key].text }));
export const outcomes = (keys = Object.keys(OUTCOME)) =>
	keys.map((key) => ({ key, name: OUTCOME[key].name, color: OUTCOME[key].color, ink: key === 'late' ? '#2a1745' : '#ffffff' }));
