import { formatProblem, type Problem } from '../config/errors.ts';

/** Thrown when a request or a message can't be taken as it is. Nothing was started or sent. */
export class InvalidRequestError extends Error {
  override readonly name = 'InvalidRequestError';
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[], what = 'The request') {
    super(
      [
        `${what} cannot be used as it is. Nothing was started, and nobody's data was touched.`,
        ...problems.map(formatProblem),
      ].join('\n'),
    );
    this.problems = problems;
  }
}

/**
 * Thrown when another request stands in the way (P24). Nothing was started; the other one goes on unchanged.
 *
 * `scope`: the person has an open request with another scope. `request-id`: the id was used for something else.
 */
export class RequestConflictError extends Error {
  override readonly name = 'RequestConflictError';
  readonly reason: 'scope' | 'request-id';
  /** The request that stands in the way. */
  readonly requestId: string;
  /** What is not the same, one line each, without personal data. */
  readonly differences: readonly string[];

  constructor(reason: 'scope' | 'request-id', requestId: string, differences: readonly string[]) {
    super(
      [
        reason === 'scope'
          ? `This person already has an open request, ${requestId}, of another scope. Nothing was started; that request ` +
            "goes on unchanged. Ask again with --extend (join: 'extend') to widen it, or wait for its end:"
          : `The request id ${requestId} was used before for something else. Nothing was started. Use another id, or ` +
            'leave it out and let Lethe make one:',
        ...differences.map((difference) => `  ${difference}`),
      ].join('\n'),
    );
    this.reason = reason;
    this.requestId = requestId;
    this.differences = differences;
  }
}

/** Thrown when no request has this id: neither on the Temporal server nor in the records of the state directory. */
export class UnknownRequestError extends Error {
  override readonly name = 'UnknownRequestError';
  readonly requestId: string;

  constructor(requestId: string) {
    super(
      `No request "${requestId.slice(0, 80)}" is known, neither to Temporal nor in the records. Nothing was changed. ` +
        '`lethe list` shows those there are.',
    );
    this.requestId = requestId;
  }
}

/**
 * Thrown by the result of a request that was to join an open one while no worker could confirm it, when that one has ended
 * without taking it in.
 */
export class NotJoinedError extends Error {
  override readonly name = 'NotJoinedError';
  readonly requestId: string;
  /** The request that it was to join. */
  readonly askedOf: string;

  constructor(requestId: string, askedOf: string) {
    super(
      `Request ${askedOf} ended without taking request ${requestId} in: nothing was read or erased on its account, and ` +
        'the end of the other says nothing about it. Ask again under the same id; it begins anew.',
    );
    this.requestId = requestId;
    this.askedOf = askedOf;
  }
}

/** Thrown when a selection of many requests is not what its sender expected. Nothing was sent to any of them. */
export class SelectionError extends Error {
  override readonly name = 'SelectionError';
  readonly expected: number;
  readonly found: number;

  constructor(expected: number, found: number) {
    super(
      `The filter matches ${found} open ${found === 1 ? 'request' : 'requests'}, not the ${expected} expected. ` +
        'Nothing was sent to any of them. Look at `lethe list` and ask again.',
    );
    this.expected = expected;
    this.found = found;
  }
}

/** Thrown when Temporal holds something that these keys or this release can't read. */
export class UnreadableStateError extends Error {
  override readonly name = 'UnreadableStateError';

  constructor(workflowId: string, options?: ErrorOptions) {
    super(
      `What Temporal keeps of ${workflowId} cannot be read: it was written with another keys.vault, or by a newer ` +
        'release. The request itself is unharmed. Use the keys that its worker uses.',
      options,
    );
  }
}
