export { mesosAppcSource } from './appc/appc-source.ts'
export { listMesosAppcImages } from './appc/mesos-cache.ts'
export { listMesosDockerImages, mesosDockerSource } from './mesos-docker-store.ts'
