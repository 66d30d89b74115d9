import { record, type Json } from '../common/json.ts';
import { parseTime } from '../common/time.ts';
import { refuse } from './http.ts';

/** A node of a parsed query. */
export type Expression = Json;

/** Looks up a field of the row in hand. */
export type Lookup = (path: readonly string[]) => unknown;

/** SQL's three values: a comparison with nothing is neither true nor false. */
type Tri = boolean | null;

/** An expression, checked and ready. @throws ApiError 400 when it is none that the simulator knows. */
export type Evaluate = (field: Lookup) => unknown;

function bad(what: string): never {
  throw refuse(400, `BTQL: ${what}`);
}

/** The path an `ident` names, `null` when the node is none. */
export function identPath(node: unknown): readonly string[] | null {
  const found = record(node);
  if (found?.['op'] !== 'ident') return null;
  const name = found['name'];
  if (!Array.isArray(name) || name.length === 0) return bad('an ident needs a name');
  return name.map(String);
}

/** The value of a `literal`; `undefined` when the node is none. */
export function literalValue(node: unknown): unknown {
  const found = record(node);
  return found?.['op'] === 'literal' ? (found['value'] ?? null) : undefined;
}

function child(node: Json, name: string): Expression {
  return record(node[name]) ?? bad(`${String(node['op'])} needs ${name}`);
}

/** The operands of `and` and `or`: `children`, or `left` and `right`. */
function operands(node: Json): Expression[] {
  if (Array.isArray(node['children'])) return node['children'].map((one) => record(one) ?? bad('a child is no node'));
  return [child(node, 'left'), child(node, 'right')];
}

/** Negative, zero or positive; `null` when the values can't be compared: nothing, or different JSON types. */
function order(left: unknown, right: unknown, asTimes: boolean): number | null {
  if (typeof left === 'number' && typeof right === 'number') return left - right;
  if (typeof left !== 'string' || typeof right !== 'string') return null;
  if (asTimes) {
    const [a, b] = [parseTime(left), parseTime(right)];
    if (a !== null && b !== null) return a - b;
  }
  return left < right ? -1 : left > right ? 1 : 0;
}

function equal(left: unknown, right: unknown, asTimes: boolean): Tri {
  if (left === null || right === null) return null;
  const compared = order(left, right, asTimes);
  if (compared !== null) return compared === 0;
  return typeof left === typeof right && JSON.stringify(left) === JSON.stringify(right);
}

const ORDERED: Record<string, (compared: number) => boolean> = {
  lt: (compared) => compared < 0,
  le: (compared) => compared <= 0,
  gt: (compared) => compared > 0,
  ge: (compared) => compared >= 0,
};

function isTime(...nodes: readonly unknown[]): boolean {
  return nodes.some((node) => identPath(node)?.[0] === 'created');
}

function compileIn(node: Json): Evaluate {
  const left = compile(child(node, 'left'));
  const asTimes = isTime(node['left']);
  const values = literalValue(node['right']);
  if (!Array.isArray(values)) return bad('in needs a literal list');
  const texts = new Set(values.filter((value) => typeof value === 'string'));
  const others = new Set(values.filter((value) => typeof value !== 'string').map((value) => JSON.stringify(value)));
  return (field) => {
    const value = left(field) ?? null;
    if (value === null) return null;
    if (typeof value === 'string' ? texts.has(value) : others.has(JSON.stringify(value))) return true;
    return asTimes && values.some((one) => equal(value, one, true) === true);
  };
}

function compileLogic(op: 'and' | 'or', node: Json): Evaluate {
  const parts = operands(node).map((part) => compile(part));
  const decides = op === 'or';
  return (field) => {
    let result: Tri = !decides;
    for (const part of parts) {
      const value = part(field);
      if (value === decides) return decides;
      if (value !== !decides) result = null;
    }
    return result;
  };
}

function compileText(op: string, node: Json): Evaluate {
  const left = compile(child(node, 'left'));
  const pattern = literalValue(node['right']);
  if (typeof pattern !== 'string') return bad(`${op} needs a literal text`);
  if (op === 'match') {
    const word = pattern.toLowerCase();
    return (field) => {
      const value = left(field) ?? null;
      if (value === null) return null;
      const words = (typeof value === 'string' ? value : JSON.stringify(value)).toLowerCase().split(/[^\p{L}\p{N}_]+/u);
      return words.includes(word);
    };
  }
  const source = pattern
    .replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
    .replace(/%/g, '[\\s\\S]*')
    .replace(/_/g, '[\\s\\S]');
  const wanted = new RegExp(`^${source}$`, op === 'ilike' ? 'iu' : 'u');
  return (field) => {
    const value = left(field);
    return typeof value === 'string' ? wanted.test(value) : null;
  };
}

/** `includes`: whether a list (or the values of an object) holds a value. */
function compileIncludes(node: Json): Evaluate {
  const haystack = compile(record(node['haystack']) ?? child(node, 'left'));
  const needle = compile(record(node['needle']) ?? child(node, 'right'));
  return (field) => {
    const [all, one] = [haystack(field) ?? null, needle(field) ?? null];
    if (all === null || one === null) return null;
    return Array.isArray(all) && all.some((value) => equal(value, one, false) === true);
  };
}

function compileArithmetic(op: 'add' | 'sub', node: Json): Evaluate {
  const [left, right] = [compile(child(node, 'left')), compile(child(node, 'right'))];
  return (field) => {
    const [a, b] = [left(field), right(field)];
    if (typeof a !== 'number' || typeof b !== 'number') return null;
    return op === 'add' ? a + b : a - b;
  };
}

/** Checks an expression and makes it a function of a row. */
export function compile(node: Expression): Evaluate {
  const op = node['op'];
  switch (op) {
    case 'literal': {
      const value = node['value'] ?? null;
      return () => value;
    }
    case 'ident': {
      const path = identPath(node) ?? [];
      return (field) => field(path) ?? null;
    }
    case 'eq':
    case 'ne': {
      const [left, right] = [compile(child(node, 'left')), compile(child(node, 'right'))];
      const asTimes = isTime(node['left'], node['right']);
      return (field) => {
        const same = equal(left(field) ?? null, right(field) ?? null, asTimes);
        return same === null ? null : same === (op === 'eq');
      };
    }
    case 'lt':
    case 'le':
    case 'gt':
    case 'ge': {
      const [left, right] = [compile(child(node, 'left')), compile(child(node, 'right'))];
      const asTimes = isTime(node['left'], node['right']);
      const holds = ORDERED[op];
      return (field) => {
        const compared = order(left(field), right(field), asTimes);
        return compared === null || holds === undefined ? null : holds(compared);
      };
    }
    case 'in':
      return compileIn(node);
    case 'and':
    case 'or':
      return compileLogic(op, node);
    case 'not': {
      const inner = compile(child(node, 'expr'));
      return (field) => {
        const value = inner(field);
        return typeof value === 'boolean' ? !value : null;
      };
    }
    case 'isnull':
    case 'isnotnull': {
      const inner = compile(child(node, 'expr'));
      return (field) => ((inner(field) ?? null) === null) === (op === 'isnull');
    }
    case 'like':
    case 'ilike':
    case 'match':
      return compileText(op, node);
    case 'includes':
      return compileIncludes(node);
    case 'add':
    case 'sub':
      return compileArithmetic(op, node);
    default:
      return bad(`unsupported op ${JSON.stringify(op)}`);
  }
}

/** A comparison that every row of the answer must pass: a conjunct of the filter's top. */
export interface Conjunct {
  readonly op: string;
  readonly path: readonly string[];
  /** The literals it allows (`eq`: one, `in`: several, ranges: one). */
  readonly values: readonly unknown[];
}

/** The top-level conjuncts that compare a field with literals. */
export function conjuncts(node: Expression | null): Conjunct[] {
  if (node === null) return [];
  if (node['op'] === 'and') return operands(node).flatMap((one) => conjuncts(one));
  const path = identPath(node['left']);
  const value = literalValue(node['right']);
  if (path === null || value === undefined) return [];
  const op = String(node['op']);
  return [{ op, path, values: op === 'in' && Array.isArray(value) ? (value as unknown[]) : [value] }];
}

/** The branches of each `or` among the top-level conjuncts. */
export function alternatives(node: Expression | null): (readonly Expression[])[] {
  if (node === null) return [];
  if (node['op'] === 'and') return operands(node).flatMap((one) => alternatives(one));
  return node['op'] === 'or' ? [operands(node)] : [];
}

/** Every field path an expression names. */
export function pathsIn(node: unknown): (readonly string[])[] {
  if (Array.isArray(node)) return node.flatMap(pathsIn);
  const found = record(node);
  if (found === null || found['op'] === 'literal') return [];
  const own = identPath(found);
  return own === null ? Object.values(found).flatMap(pathsIn) : [own];
}

/** Fields on which a bound keeps a query of project logs from reading all history. */
const BOUNDING = new Set(['created', '_xact_id', '_pagination_key', 'id', 'root_span_id']);
const RANGES = new Set(['eq', 'in', 'lt', 'le', 'gt', 'ge']);

/** Whether a filter keeps a query of project logs from reading all history. */
export function isBounded(node: Expression | null): boolean {
  if (node === null) return false;
  if (node['op'] === 'and') return operands(node).some(isBounded);
  if (node['op'] === 'or') return operands(node).every(isBounded);
  return conjuncts(node).some((one) => BOUNDING.has(one.path.join('.')) && RANGES.has(one.op));
}
