export { verifyWebhook } from './activities/webhook.ts';
export {
  LetheClient,
  type ConnectOptions,
  type Erasure,
  type LetheClientOptions,
  type ListFilter,
} from './client/client.ts';
export {
  doctorCheckSchema,
  doctorReportSchema,
  runDoctor,
  type DoctorCheck,
  type DoctorOptions,
  type DoctorReport,
} from './client/doctor.ts';
export {
  InvalidRequestError,
  NotJoinedError,
  RequestConflictError,
  SelectionError,
  UnknownRequestError,
  UnreadableStateError,
} from './client/errors.ts';
export { NoSupportPacketError, type SupportPacket, type SupportPacketOptions } from './client/support-packet.ts';
export { requestTaskSchema, type RequestTask } from './client/tasks.ts';
export {
  verbAnswerSchema,
  type ApproveMessage,
  type RequestFilter,
  type VerbAnswer,
  type VerbMessage,
} from './client/verbs.ts';
export {
  configSchema,
  loadConfig,
  parseConfig,
  type ConfigInput,
  type LetheConfig,
  type LoadConfigOptions,
} from './config/config.ts';
export { ConfigError, type Problem } from './config/errors.ts';
export { STATUSES, VERDICTS, type Status, type Verdict } from './erasure/outcome.ts';
export { connectionPlanSchema, type ConnectionPlan } from './erasure/plan.ts';
export { LAWS, type Law } from './erasure/law.ts';
export { eraseRequestSchema, type EraseRequest, type Identifier } from './erasure/request.ts';
export {
  aftercareStatusSchema,
  connectionStatusSchema,
  planSchema,
  requestStatusSchema,
  type AftercareStatus,
  type ConnectionStatus,
  type Plan,
  type RequestStatus,
} from './erasure/status.ts';
export { OPERATOR_VERBS, VERB_NAMES, type OperatorVerb, type VerbName } from './erasure/verbs.ts';
export { sealedRecordSchema, type RecordView, type SealedRecord } from './evidence/record.ts';
export { TemporalUnavailableError } from './temporal/unavailable.ts';
