interface Appointment {
  readonly atMs: number;
  readonly seq: number;
  readonly act: (atMs: number) => void;
}

/** What is to happen later. No timer runs: what is due is done before each request and each look at the truth. */
export class Agenda {
  #appointments: Appointment[] = [];
  #seq = 0;

  /** Has `act` done, with the instant it was meant for, once virtual time has reached `atMs`. */
  at(atMs: number, act: (atMs: number) => void): void {
    this.#seq += 1;
    this.#appointments.push({ atMs, seq: this.#seq, act });
  }

  /** Does everything due by `nowMs`, earliest first, including what it makes due in turn. */
  catchUp(nowMs: number): void {
    while (true) {
      const due = this.#appointments.filter((one) => one.atMs <= nowMs);
      if (due.length === 0) return;
      this.#appointments = this.#appointments.filter((one) => one.atMs > nowMs);
      due.sort((left, right) => left.atMs - right.atMs || left.seq - right.seq);
      for (const one of due) one.act(one.atMs);
    }
  }
}
