export { LetheClient, type ConnectOptions, type Erasure, type LetheClientOptions } from './client/client.ts';
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
  RequestConflictError,
  SelectionError,
  UnknownRequestError,
  UnreadableStateError,
} from './client/errors.ts';
export { NoSupportPacketError, type SupportPacket, type SupportPacketOptions } from './client/support-packet.ts';
export { requestTaskSchema, type RequestTask } from './client/tasks.ts';
export { verbAnswerSchema, type RequestFilter, type VerbAnswer, type VerbMessage } from './client/verbs.ts';
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
export { eraseRequestSchema, type EraseRequest, type Identifier } from './erasure/request.ts';
export {
  connectionStatusSchema,
  requestStatusSchema,
  type ConnectionStatus,
  type RequestStatus,
} from './erasure/status.ts';
export { VERB_NAMES, type VerbName } from './erasure/verbs.ts';
export { sealedRecordSchema, type RecordView, type SealedRecord } from './evidence/record.ts';
export { TemporalUnavailableError } from './temporal/unavailable.ts';
