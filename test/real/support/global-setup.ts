import temporal from '../../support/global-setup.ts';
import { MlflowServer } from './mlflow-server.ts';
import { Phoenix } from './phoenix.ts';

/** Installs the servers, once, so that no test waits for it; then what all tests need. */
export default async function globalSetup(): Promise<void> {
  await Phoenix.environment();
  await MlflowServer.install();
  await temporal();
}
