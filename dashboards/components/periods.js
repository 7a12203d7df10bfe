/** Choices of a period, in days up to the moment the data reaches. */
export const PERIODS = [
	{ value: '7', label: '7 дней' },
	{ value: '30', label: '30 дней' },
	{ value: '90', label: '90 дней' },
	{ value: '36500', label: 'всё время' }
];
