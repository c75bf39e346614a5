// The parts of undici that are used: loading all of it, with fetch, caches and mocks, takes longer than a small pull.
import type { Dispatcher } from 'undici'
import request from 'undici/lib/api/api-request.js'

export { default as Agent } from 'undici/lib/dispatcher/agent.js'
export { default as buildConnector } from 'undici/lib/core/connect.js'

/** Sends one request by an agent. */
export async function sendRequest(
  agent: Dispatcher,
  options: Dispatcher.RequestOptions,
): Promise<Dispatcher.ResponseData> {
  return request.call(agent, options)
}
