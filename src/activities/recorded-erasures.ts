import { optionalInstant, type RecordedErasure } from '../evidence/record.ts';
import type { CopyReceipt } from '../stores/port.ts';
import { digestIds, type Keys } from '../vault/keys.ts';

const MOST_REQUEST_IDS = 10;

/** What the record keeps of the calls that erased copies: one line for each kind, route and answer. */
export function recordedErasures(
  keys: Keys,
  receipts: readonly CopyReceipt[],
): { readonly erasures?: RecordedErasure[] } {
  if (receipts.length === 0) return {};
  const groups = Map.groupBy(receipts, ({ kind, route, status }) => JSON.stringify([kind, route, status]));
  const erasures = [...groups.values()].flatMap((calls): RecordedErasure[] => {
    const [first] = calls;
    if (first === undefined) return [];
    const ids = new Set(calls.flatMap((call) => call.ids));
    const times = (of: (call: CopyReceipt) => number | null): number[] =>
      calls.map(of).filter((time): time is number => time !== null);
    const sent = times(({ sentAtMs }) => sentAtMs);
    const acknowledged = times(({ acknowledgedAtMs }) => acknowledgedAtMs);
    return [
      {
        kind: first.kind,
        count: ids.size,
        calls: calls.length,
        digest: digestIds(keys, ids),
        route: first.route,
        status: first.status,
        requestIds: calls.flatMap(({ requestId }) => requestId ?? []).slice(0, MOST_REQUEST_IDS),
        sentAt: optionalInstant(sent.length === 0 ? null : sent.reduce((a, b) => Math.min(a, b))),
        acknowledgedAt: optionalInstant(
          acknowledged.length === 0 ? null : acknowledged.reduce((a, b) => Math.max(a, b)),
        ),
      },
    ];
  });
  return { erasures };
}
