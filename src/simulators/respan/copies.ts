import type { Random } from '../common/ids.ts';
import type { Environment, SpanRow } from './rows.ts';

/** One log in a dataset: a copy with an id of its own. */
export interface DatasetLog {
  readonly unique_id: string;
  readonly id: string;
  readonly trace_unique_id: string | null;
  readonly customer_identifier: string | null;
  readonly thread_identifier: string | null;
  readonly timestamp: string | null;
  readonly metadata: Readonly<Record<string, string>>;
  readonly input: unknown;
  readonly output: unknown;
  readonly status_code: number;
}

export interface Dataset {
  readonly id: string;
  readonly name: string;
  logs: DatasetLog[];
}

/** A testset: its rows are addressed by their place. */
export interface Testset {
  readonly id: string;
  readonly name: string;
  rows: Readonly<Record<string, unknown>>[];
}

/** An experiment's log: the run of one dataset row, with its own id. */
export interface ExperimentLog {
  readonly id: string;
  readonly trace_unique_id: string | null;
  readonly customer_identifier: string | null;
  readonly metadata: Readonly<Record<string, string>>;
  readonly input: unknown;
  readonly output: unknown;
}

export interface Experiment {
  readonly id: string;
  readonly name: string;
  readonly dataset_id: string | null;
  logs: ExperimentLog[];
}

/** Where data of traces is also kept. Deleting traces touches none of it. */
export class Copies {
  readonly datasets: Dataset[] = [];
  readonly testsets: Testset[] = [];
  readonly experiments: Experiment[] = [];
  readonly #shares = new Set<string>();
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  addDataset(name: string): Dataset {
    const dataset: Dataset = { id: this.#random.uuid4(), name, logs: [] };
    this.datasets.push(dataset);
    return dataset;
  }

  addTestset(name: string, rows: readonly Readonly<Record<string, unknown>>[]): Testset {
    const testset: Testset = { id: this.#random.uuid4(), name, rows: [...rows] };
    this.testsets.push(testset);
    return testset;
  }

  addExperiment(name: string, datasetId: string | null): Experiment {
    const experiment: Experiment = { id: this.#random.uuid4(), name, dataset_id: datasetId, logs: [] };
    this.experiments.push(experiment);
    return experiment;
  }

  /** Copies a log into a dataset. */
  copyToDataset(dataset: Dataset, row: SpanRow): DatasetLog {
    const id = this.#random.uuid4();
    const log: DatasetLog = {
      unique_id: id,
      id,
      trace_unique_id: row.traceId,
      customer_identifier: row.customerIdentifier,
      thread_identifier: row.threadIdentifier,
      timestamp: new Date(row.endMs).toISOString(),
      metadata: row.metadata,
      input: row.input,
      output: row.output,
      status_code: row.error === null ? 200 : 500,
    };
    dataset.logs.push(log);
    return log;
  }

  /** Copies a log into an experiment. */
  copyToExperiment(experiment: Experiment, row: SpanRow): ExperimentLog {
    const log: ExperimentLog = {
      id: this.#random.uuid4(),
      trace_unique_id: row.traceId,
      customer_identifier: row.customerIdentifier,
      metadata: row.metadata,
      input: row.input,
      output: row.output,
    };
    experiment.logs.push(log);
    return log;
  }

  /** Makes a public link of a trace. */
  share(environment: Environment, traceId: string): void {
    this.#shares.add(`${environment}\u0000${traceId}`);
  }

  isShared(environment: Environment, traceId: string): boolean {
    return this.#shares.has(`${environment}\u0000${traceId}`);
  }
}
