/** The pages, in the order of the menu. */
export const PAGES = [
	{ href: '/', name: 'Обзор' },
	{ href: '/managers/', name: 'Менеджеры' },
	{ href: '/rules/', name: 'Правила' },
	{ href: '/funnel/', name: 'Воронка' },
	{ href: '/response/', name: 'Скорость ответа' },
	{ href: '/risk/', name: 'Под угрозой' },
	{ href: '/deal/', name: 'История сделки' },
	{ href: '/regulation/', name: 'Регламент' },
	{ href: '/sync/', name: 'Данные' }
];
