/** A cell; null is shown as a dash. */
export type Cell = string | number | null;

const NUMBERS = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });

function text(cell: Cell): string {
  if (cell === null) return '-';
  return typeof cell === 'number' ? NUMBERS.format(cell) : cell;
}

/** Columns as wide as they need to be; numbers to the right. */
export function table(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const widths = head.map((name, column) =>
    Math.max(name.length, ...rows.map((row) => text(row[column] ?? '').length)),
  );
  const isNumeric = head.map((_name, column) =>
    rows.every((row) => typeof row[column] === 'number' || row[column] == null),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) =>
        isNumeric[column] === true ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd();
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map((row) => line(row.map(text)))]
    .map((one) => `  ${one}`)
    .join('\n');
}

export function mib(bytes: number | null): string | null {
  return bytes === null ? null : `${NUMBERS.format(bytes / 1024 / 1024)} MiB`;
}

export function kib(bytes: number): string {
  return `${NUMBERS.format(bytes / 1024)} KiB`;
}
