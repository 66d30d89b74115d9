import { afterAll } from '@jest/globals';
import { conformance } from '../conformance/suite.ts';
import { mlflowHarness } from './support/mlflow-harness.ts';
import { MlflowServer } from './support/mlflow-server.ts';

// Before any test: setting the environment up may take minutes, once, and concurrent cases do not wait for hooks.
const server = await MlflowServer.start();

afterAll(() => server.close());

conformance(mlflowHarness(() => server));
