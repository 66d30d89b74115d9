import { DefaultFailureConverter } from '@temporalio/common';

/**
 * Moves messages and stacks of failures into a payload, which the codec then encrypts. The SDK loads this file by its
 * path, and once more inside the workflow bundle: nothing but `@temporalio/common` may be imported here.
 */
export const failureConverter = new DefaultFailureConverter({ encodeCommonAttributes: true });
