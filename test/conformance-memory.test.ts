import { memory } from './conformance/memory.ts';
import { conformance } from './conformance/suite.ts';

conformance(memory);
