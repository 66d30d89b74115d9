const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'] as const;
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'] as const;

/** `Tue 1 Dec 00:00 UTC`. Written out by hand: workflow code must not depend on the host's Intl data. */
export function formatInstant(ms: number): string {
  const at = new Date(ms);
  const time = at.toISOString().slice(11, 16);
  return `${DAYS[at.getUTCDay()]} ${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]} ${time} UTC`;
}

/** `1,000`. */
export function formatCount(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** `1 id`, `2 ids`, `1,000 ids`. */
export function formatNoun(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

/** `1 trace`, `2 traces`, `1,000 traces`. */
export function formatTraces(count: number): string {
  return formatNoun(count, 'trace');
}
