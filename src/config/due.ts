import { DAY_MS } from '../erasure/rhythm.ts';

/** A period in which a request must be done. Months are calendar months, as laws count them. */
export type DuePeriod = { readonly months: number } | { readonly days: number };

/** `1 month`, `2 months`, `30 days`, `2 weeks`; null when it is none of these. */
export function parseDuePeriod(text: string): DuePeriod | null {
  const match = /^([1-9]\d{0,2}) (day|week|month)s?$/.exec(text.trim());
  if (match === null) return null;
  const count = Number(match[1]);
  if (match[2] === 'month') return { months: count };
  return { days: match[2] === 'week' ? count * 7 : count };
}

/**
 * When the period that begins at an instant ends. The month after 31 January ends on the last day of February, same
 * time of day, UTC.
 */
export function dueAfter(period: DuePeriod, fromMs: number): number {
  if ('days' in period) return fromMs + period.days * DAY_MS;
  const from = new Date(fromMs);
  const month = from.getUTCMonth() + period.months;
  const lastDay = new Date(Date.UTC(from.getUTCFullYear(), month + 1, 0)).getUTCDate();
  const day = Math.min(from.getUTCDate(), lastDay);
  const midnight = Date.UTC(from.getUTCFullYear(), month, day);
  return midnight + (fromMs - Date.UTC(from.getUTCFullYear(), from.getUTCMonth(), from.getUTCDate()));
}
