/** Endpoints of definition files as routes beside the platform's own. */
import { type Fault, SluiceError } from '../errors.ts'
import type { Capabilities, Documents } from '../sdk/context.ts'
import { type Endpoint, type EndpointRequest, HttpReply } from '../sdk/endpoint.ts'
import { type Schema, z } from '../sdk/schema.ts'
import { faultsOf } from './faults.ts'
import type { ApiParts } from './parts.ts'
import { parse } from './request.ts'
import { type Route, type RouteInput, route } from './route.ts'
import { startWorkflow } from './start-workflow.ts'

/** What the platform keeps for itself, now or later; nothing below these may be contributed. */
export const reservedPaths = [
  '/docs',
  '/healthz',
  '/readyz',
  '/metrics',
  '/openapi.json',
  ...['workflows', 'runs', 'tasks', 'plans', 'hooks', 'streams', 'logs', 'events', 'query'].map(
    (name) => `/api/v1/${name}`,
  ),
] as const

const validPath = /^(?:\/(?:[A-Za-z0-9_.-]+|:[A-Za-z][A-Za-z0-9_]*))+$/

export interface Contributed {
  readonly routes: readonly Route[]
  /** Of endpoints that cannot be served, by the file that they came from. */
  readonly faults: readonly Fault[]
}

export function contributedRoutes(parts: ApiParts, platform: readonly Pick<Route, 'path'>[]): Contributed {
  const routes: Route[] = []
  const faults: Fault[] = []
  const taken = new Map<string, string>()
  for (const { endpoint, file } of parts.endpoints) {
    const shape = `${endpoint.method} ${endpoint.path.replace(/:[^/]+/g, ':')}`
    const fault = pathFault(endpoint.path, platform) ?? doubled(taken.get(shape))
    if (fault) {
      faults.push({ where: file, message: `${endpoint.method} ${endpoint.path} ${fault}` })
      continue
    }
    taken.set(shape, file)
    routes.push(contributedRoute(parts, endpoint, file))
  }
  return { routes, faults }
}

const doubled = (file: string | undefined) => file && `is contributed by ${file} too`

/** Why a path cannot be contributed, or undefined. */
export function pathFault(path: string, platform: readonly Pick<Route, 'path'>[]): string | undefined {
  if (!validPath.test(path)) return 'is not a path; write /segments of letters, digits, _ . - or :name'
  const taken = [...reservedPaths, ...platform.map((route) => route.path)].find((other) => reaches(path, other))
  return taken && `would take the place of ${taken}, which is the platform's`
}

/** Whether some URL below `other` fits `path`. */
function reaches(path: string, other: string): boolean {
  const [own, theirs] = [path.split('/'), other.split('/')]
  if (other === '/') return path === '/'
  return (
    own.length >= theirs.length &&
    theirs.every((part, at) => part === own[at] || part.startsWith(':') || own[at]?.startsWith(':'))
  )
}

function contributedRoute(parts: ApiParts, { method, path, options }: Endpoint, file: string): Route {
  const answer = options.reply
    ? { description: 'Done', schema: options.reply }
    : { description: 'As the endpoint decides', type: options.type ?? '*/*' }
  const { status = 200 } = options
  return route<never, never, never>({
    method,
    path,
    tag: file,
    summary: options.summary,
    ...(options.params && { params: options.params }),
    ...(options.query && { query: closed(options.query) }),
    ...(options.body && { body: closed(options.body) }),
    ...(options.upload && { upload: options.upload }),
    answers: { [status]: answer },
    async handle(input) {
      const result = await options.handle(new Request(parts, input))
      if (options.reply === undefined || result instanceof HttpReply) return result
      const parsed = parse(options.reply, result)
      const checked = parsed instanceof Promise ? await parsed : parsed
      if (!checked.error) return status === 200 ? checked.data : new HttpReply(status, checked.data)
      const faults = faultsOf(checked.error, '').map(({ where, message }) => `${where} ${message}`)
      throw new SluiceError(
        'INTERNAL',
        `${method} ${path} of ${file} answered against its own schema: ${faults.join('; ')}`,
      )
    },
  })
}

/** A field that is not known is a misspelt one: an object takes none, unless its author says that it is loose. */
function closed<Value>(schema: Schema<Value>): Schema<Value> {
  const open = schema instanceof z.ZodObject && schema.def.catchall === undefined
  return open ? (schema.strict() as unknown as Schema<Value>) : schema
}

/** What an endpoint's function gets. Capabilities and the signal are made when they are first asked for: most requests need few. */
class Request implements EndpointRequest<never, never, never> {
  readonly params: never
  readonly query: never
  readonly body: never
  readonly upload: AsyncIterable<Uint8Array> | undefined
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly #parts: ApiParts
  readonly #input: RouteInput<never, never, never>
  #capabilities: Capabilities | undefined

  constructor(parts: ApiParts, input: RouteInput<never, never, never>) {
    this.#parts = parts
    this.#input = input
    this.params = input.params
    this.query = input.query
    this.body = input.body
    this.upload = input.upload
    this.headers = input.headers
  }

  get signal() {
    return this.#input.signal
  }
  get log() {
    return this.#own.log
  }
  get objects() {
    return this.#own.objects
  }
  // Functions are bound when they are taken out, since authors destructure what they need.
  get documents() {
    return <Document extends object>(collection: string): Documents<Document> => this.#own.documents(collection)
  }
  get connection(): Capabilities['connection'] {
    return (handle) => this.#own.connection(handle)
  }
  get secret() {
    return (name: string) => this.#own.secret(name)
  }
  get start(): EndpointRequest<never, never, never>['start'] {
    return async (workflow, params, options = {}) => {
      const { runId } = await startWorkflow(this.#parts, workflow.name, params, options)
      return { runId }
    }
  }

  get #own(): Capabilities {
    this.#capabilities ??= this.#parts.capabilities(this.signal)
    return this.#capabilities
  }
}
