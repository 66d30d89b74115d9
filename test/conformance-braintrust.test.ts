import { braintrust } from './conformance/braintrust.ts';
import { conformance } from './conformance/suite.ts';

conformance(braintrust);
