import { respan } from './conformance/respan.ts';
import { conformance } from './conformance/suite.ts';

conformance(respan);
