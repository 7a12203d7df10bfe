// One colour, one meaning, on every page; told apart with any kind of colour
// vision (severity also runs from dark to light; a word or figure always stands
// beside the colour).

/** How bad a breach is: warm, the darker the worse. */
export const SEVERITY = {
	critical: { name: 'критическое', color: '#7a0820', text: '#ffffff' },
	major: { name: 'серьёзное', color: '#c4520a', text: '#ffffff' },
	minor: { name: 'мелкое', color: '#f4bc4a', text: '#3b2a00' },
	info: { name: 'к сведению', color: '#b8c0c9', text: '#1f2933' }
};
export const SEVERITIES = Object.keys(SEVERITY);

/** What became of a duty: cold; blue is kept, violet is not. */
export const OUTCOME = {
	met: { name: 'в срок', color: '#2374b3' },
	late: { name: 'с опозданием', color: '#ddd0f1' },
	missed: { name: 'не сделано', color: '#45197d' }
};

/** Amounts without a judgement, and what they are compared with. */
export const PLAIN = '#4b7f8c';
export const BEFORE = '#c9d3da';

export const severities = (keys = SEVERITIES) =>
	keys.map((key) => ({ key, name: SEVERITY[key].name, color: SEVERITY[key].color, ink: SEVERITY[key].text }));
export const outcomes = (keys = Object.keys(OUTCOME)) =>
	keys.map((key) => ({ key, name: OUTCOME[key].name, color: OUTCOME[key].color, ink: key === 'late' ? '#2a1745' : '#ffffff' }));
