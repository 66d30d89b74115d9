/** Values that a search may treat differently: a control of one class says little about another (P6). */
export type ValueClass = 'number' | 'digits' | 'quoted' | 'unicode' | 'plain';

export function classOf({ text, numeric }: { readonly text: string; readonly numeric: boolean }): ValueClass {
  if (numeric) return 'number';
  if (/^\d+$/.test(text)) return 'digits';
  if (!/^[\x20-\x7e]*$/.test(text)) return 'unicode';
  return /["'\\]/.test(text) ? 'quoted' : 'plain';
}
