import type { LaneState } from './lane.ts';
import { isOpen, withAttestations } from './tasks.ts';

/** @returns why a lane cannot take somebody's word for a task, or null when it can. A held lane can: nothing is called. */
export function attestRefusal(lane: LaneState, taskId: string): string | null {
  const task = lane.figures.tasks?.find(({ id }) => id === taskId);
  if (task === undefined) return `${lane.connection} has no such task`;
  if (lane.phase === 'ended')
    return `${lane.connection} has ended; once the whole request has, a word goes beside its record`;
  return isOpen(task) ? null : `${lane.connection}: the task was attested already`;
}

/** The lane after somebody's word for a task that is open, and what will happen now. */
export function attest(lane: LaneState, taskId: string, by: string): readonly [LaneState, string] {
  const task = lane.figures.tasks?.find(({ id }) => id === taskId);
  if (task === undefined) return [lane, `${lane.connection} has no such task`];
  const earlier = (lane.attested ?? []).filter((one) => one.task !== taskId);
  const attested = [...earlier, { task: taskId, by, count: task.count }];
  const figures = withAttestations(lane.figures, attested);
  const left = (figures.tasks ?? []).filter(isOpen).length;
  const waited = lane.flag?.reason === MANUAL_TASKS;
  const next: LaneState = {
    ...lane,
    attested,
    figures,
    ...(waited && left === 0 ? { flag: null, lookNow: true } : {}),
  };
  const rest = left === 0 ? 'no task is left' : `${left} more ${left === 1 ? 'task is' : 'tasks are'} left`;
  const then = waited && left === 0 ? '; reads once more, now, and ends if that is clean' : '';
  return [next, `${lane.connection}: taken as your word, which no read has shown; ${rest}${then}`];
}

/** Why a lane whose traces are proven gone stays open (`policy.waitForTasks`). */
export const MANUAL_TASKS = 'manual-tasks';
