/** Thrown when the Temporal server does not answer. Nothing was started or changed; open requests wait on the server. */
export class TemporalUnavailableError extends Error {
  override readonly name = 'TemporalUnavailableError';
  readonly address: string;

  constructor(address: string, options?: ErrorOptions) {
    super(
      `Temporal does not answer at ${address}. Nothing was started or changed by this command; requests that are open ` +
        'stay where they are and go on once it is back. Start it (`lethe dev` starts one on this machine), or correct ' +
        'temporal.address or TEMPORAL_ADDRESS.',
      options,
    );
    this.address = address;
  }
}
