import { langsmith } from './conformance/langsmith.ts';
import { conformance } from './conformance/suite.ts';

conformance(langsmith);
