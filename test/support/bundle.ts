import { bundleWorkflowCode, DefaultLogger, type WorkflowBundleWithSourceMap } from '@temporalio/worker';
import { FAILURE_CONVERTER_PATH } from '../../src/temporal/codec.ts';
import { workflowsPath } from '../../src/worker.ts';

let bundle: Promise<WorkflowBundleWithSourceMap> | null = null;

/** The workflow code, bundled once a test file: it takes about a second. */
export function sharedBundle(): Promise<WorkflowBundleWithSourceMap> {
  bundle ??= bundleWorkflowCode({
    workflowsPath: workflowsPath(),
    failureConverterPath: FAILURE_CONVERTER_PATH,
    logger: new DefaultLogger('ERROR'),
  });
  return bundle;
}
