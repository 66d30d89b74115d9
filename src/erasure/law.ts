/**
 * Periods in which a person's request must be answered, by law. They count from the receipt and end with a day of the
 * configured zone; public holidays are not known here, and weekends lengthen no deadline.
 */
export const LAWS = ['gdpr', 'ccpa', 'none'] as const;

/**
 * `gdpr`: one month, two more on notice (Regulation (EU) 2016/679, Article 12(3)). `ccpa`: confirmation of receipt within
 * 10 business days, 45 calendar days, 45 more on notice (California Code of Regulations, title 11, section 7021). `none`:
 * the policy's own period, which nothing extends.
 */
export type Law = (typeof LAWS)[number];

/** Days of the calendar: no time, no zone. */
export interface CalendarDay {
  readonly year: number;
  /** 1 to 12. */
  readonly month: number;
  readonly day: number;
}

/** What a law asks of a request, computed once when it is started and never again: rules of zones change. */
export interface Deadlines {
  readonly law: Law;
  /** IANA name of the zone in which days end. */
  readonly zone: string;
  /** Day of the receipt in that zone, `YYYY-MM-DD`. */
  readonly receivedOn: string;
  /** Until when the receipt must be confirmed, epoch milliseconds; null: the law does not ask for it. */
  readonly confirmByMs: number | null;
  /** End of the law's first period, epoch milliseconds; null: the law has none. */
  readonly firstDueAtMs: number | null;
  /** End of the extended period, epoch milliseconds; null: it can't be extended. */
  readonly extendedDueAtMs: number | null;
}

const CCPA_CONFIRM_BUSINESS_DAYS = 10;
const CCPA_DAYS = 45;
const GDPR_MONTHS = 1;
const GDPR_MORE_MONTHS = 2;

/**
 * The deadlines of a request.
 *
 * @param receivedAtMs epoch milliseconds.
 * @param zone IANA name, see `isZone`.
 */
export function deadlinesOf(law: Law, receivedAtMs: number, zone: string): Deadlines {
  const received = dayAt(receivedAtMs, zone);
  const end = (day: CalendarDay): number => endOfDay(day, zone);
  const base = { law, zone, receivedOn: formatDay(received) };
  switch (law) {
    case 'gdpr':
      return {
        ...base,
        confirmByMs: null,
        firstDueAtMs: end(addMonths(received, GDPR_MONTHS)),
        // From the receipt, not from the end of the first period: that may be a shorter month's last day.
        extendedDueAtMs: end(addMonths(received, GDPR_MONTHS + GDPR_MORE_MONTHS)),
      };
    case 'ccpa':
      return {
        ...base,
        confirmByMs: end(addBusinessDays(received, CCPA_CONFIRM_BUSINESS_DAYS)),
        firstDueAtMs: end(addDays(received, CCPA_DAYS)),
        extendedDueAtMs: end(addDays(received, 2 * CCPA_DAYS)),
      };
    case 'none':
      return { ...base, confirmByMs: null, firstDueAtMs: null, extendedDueAtMs: null };
  }
}

/** Whether a text is the name of a zone that this machine knows, for instance `Europe/Berlin`. */
export function isZone(text: string): boolean {
  if (!/^[A-Za-z][A-Za-z0-9_+-]*(\/[A-Za-z0-9_+-]+)*$/.test(text)) return false;
  try {
    new Intl.DateTimeFormat('en', { timeZone: text });
    return true;
  } catch {
    return false;
  }
}

/** The day that calendars in a zone show at an instant, epoch milliseconds. */
export function dayAt(ms: number, zone: string): CalendarDay {
  const { year, month, day } = clockAt(ms, zone);
  return { year, month, day };
}

/** The last millisecond of a day in a zone, epoch milliseconds. */
export function endOfDay(day: CalendarDay, zone: string): number {
  // Clocks of all zones are less than a day from UTC; one more on each side for days that a zone skipped.
  const midnight = Date.UTC(day.year, day.month - 1, day.day);
  let within = midnight - 2 * DAY_MS;
  let after = midnight + 3 * DAY_MS;
  const wanted = numberOf(day);
  while (after - within > 1) {
    const middle = Math.floor((within + after) / 2);
    if (numberOf(dayAt(middle, zone)) <= wanted) within = middle;
    else after = middle;
  }
  return within;
}

/** The same day some months later, or that month's last day where it is shorter. */
export function addMonths(from: CalendarDay, months: number): CalendarDay {
  const first = new Date(Date.UTC(from.year, from.month - 1 + months, 1));
  const lastDay = new Date(Date.UTC(from.year, from.month + months, 0)).getUTCDate();
  return {
    year: first.getUTCFullYear(),
    month: first.getUTCMonth() + 1,
    day: Math.min(from.day, lastDay),
  };
}

export function addDays(from: CalendarDay, days: number): CalendarDay {
  return utcDay(new Date(Date.UTC(from.year, from.month - 1, from.day + days)));
}

/** So many days later, Saturdays and Sundays not counted. */
export function addBusinessDays(from: CalendarDay, days: number): CalendarDay {
  let at = from;
  for (let left = days; left > 0;) {
    at = addDays(at, 1);
    const weekday = new Date(Date.UTC(at.year, at.month - 1, at.day)).getUTCDay();
    if (weekday !== 0 && weekday !== 6) left -= 1;
  }
  return at;
}

/** `2026-02-28`. */
export function formatDay({ year, month, day }: CalendarDay): string {
  return `${String(year).padStart(4, '0')}-${String(month).padStart(2, '0')}-${String(day).padStart(2, '0')}`;
}

/** Whether a text is a day that exists, `YYYY-MM-DD`. */
export function isDay(text: string): boolean {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(text)) return false;
  const date = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(text);
}

/** `2026-12-27 23:59 Europe/Berlin`: an instant as clocks in a zone show it. Not for workflow code: it needs Intl. */
export function formatInZone(ms: number, zone: string): string {
  const { hour, minute, ...day } = clockAt(ms, zone);
  return `${formatDay(day)} ${String(hour).padStart(2, '0')}:${String(minute).padStart(2, '0')} ${zone}`;
}

const DAY_MS = 86_400_000;

const formats = new Map<string, Intl.DateTimeFormat>();

function clockAt(ms: number, zone: string): CalendarDay & { readonly hour: number; readonly minute: number } {
  let format = formats.get(zone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en-u-ca-iso8601-nu-latn', {
      timeZone: zone,
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      hourCycle: 'h23',
    });
    formats.set(zone, format);
  }
  const parts = format.formatToParts(ms);
  const part = (type: Intl.DateTimeFormatPartTypes): number => Number(parts.find((one) => one.type === type)?.value);
  return {
    year: part('year'),
    month: part('month'),
    day: part('day'),
    hour: part('hour'),
    minute: part('minute'),
  };
}

function utcDay(date: Date): CalendarDay {
  return { year: date.getUTCFullYear(), month: date.getUTCMonth() + 1, day: date.getUTCDate() };
}

function numberOf({ year, month, day }: CalendarDay): number {
  return (year * 100 + month) * 100 + day;
}
