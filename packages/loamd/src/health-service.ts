import { create } from '@bufbuild/protobuf'
import { status, type UntypedServiceImplementation } from '@grpc/grpc-js'
import {
  Health,
  HealthCheckResponse_ServingStatus as ServingStatus,
  HealthCheckResponseSchema,
} from '../gen/health_pb.js'
import { type CallObserver, unary } from './service.ts'

/** Reports that the services are served, until the process stops (grpc.health.v1). Watching is not supported. */
export function healthService(
  services: readonly string[],
  isStopping: () => boolean,
  calls: CallObserver,
): UntypedServiceImplementation {
  return {
    check: unary(Health.method.check, calls, ({ service }) => {
      const isKnown = service === '' || services.includes(service)
      const serving = isStopping() ? ServingStatus.NOT_SERVING : ServingStatus.SERVING
      return create(HealthCheckResponseSchema, { status: isKnown ? serving : ServingStatus.SERVICE_UNKNOWN })
    }),
    watch: (call: { emit: (event: string, error: unknown) => void }) => {
      call.emit('error', { code: status.UNIMPLEMENTED, details: 'watch: use check' })
    },
  }
}
