/**
 * The HTTP server: guards, routes, errors and limits put together.
 *
 * 1. Every request passes the guard before anything of it is read.
 * 2. What is not a route is refused: 404, or 405 where the path is known under other methods.
 * 3. Every answer that is not a success is a problem document, without a stack and without our messages.
 * 4. No client holds anything for longer than `HttpLimits` says.
 */
import { randomUUID } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify'
import { type Fault, SluiceError } from '../errors.ts'
import { send } from './answer.ts'
import { openContext } from './context.ts'
import { contributedRoutes } from './contributed.ts'
import { docsRoutes } from './docs.ts'
import { isLoopbackHost, refusalOf, securityHeaders } from './guard.ts'
import { defaultHttpLimits, type HttpLimits } from './http-limits.ts'
import { ingestOf, mountIngest } from './ingest.ts'
import { readJsonBodies } from './json-body.ts'
import { methodTable } from './method-table.ts'
import { openApiDocument } from './open-api.ts'
import type { ApiParts } from './parts.ts'
import { errorOf, isOurs, problemOf, problemType } from './problem.ts'
import { readInput, signalOf, tooLarge, Upload, whenOver } from './request.ts'
import { formFault } from './request-form.ts'
import type { Route } from './route.ts'
import { approvalRoutes } from './routes/approvals.ts'
import { backfillRoutes } from './routes/backfills.ts'
import { clearRoutes } from './routes/clear.ts'
import { healthRoutes } from './routes/health.ts'
import { hookRoutes } from './routes/hooks.ts'
import { hostRoutes } from './routes/hosts.ts'
import { limitRoutes } from './routes/limits.ts'
import { lineageRoutes } from './routes/lineage.ts'
import { logRoutes } from './routes/logs.ts'
import { metricsRoutes } from './routes/metrics.ts'
import { planRoutes } from './routes/plans.ts'
import { runRoutes } from './routes/runs.ts'
import { streamRoutes } from './routes/streams.ts'
import { taskRoutes } from './routes/tasks.ts'
import { whyRoutes } from './routes/why.ts'
import { workflowRoutes } from './routes/workflows.ts'
import { refuseOddities, refuseUnreadable } from './socket-refusals.ts'
import { openTails } from './tails.ts'

export interface Api {
  readonly app: FastifyInstance
  /** What is wrong with contributed endpoints; those are left out, the others are served. */
  readonly faults: readonly Fault[]
  /**
   * Gives the address, such as `http://localhost:8000`. Port 0 takes a free one.
   * @throws SluiceError CONFIGURATION when the host is not a loopback address, or the port cannot be had.
   */
  listen(port: number, host?: string): Promise<string>
  /** Waits for requests under way (`closeMs` at most), ending those that wait for news at once. */
  close(): Promise<void>
}

export async function openApi(parts: ApiParts): Promise<Api> {
  const limits = { ...defaultHttpLimits, ...parts.limits }
  const closing = new AbortController()
  const tails = openTails(parts.db, limits.waits)
  const context = openContext(parts, tails)
  const platform = [
    ...healthRoutes(context),
    ...metricsRoutes(context),
    ...docsRoutes(() => document()),
    ...workflowRoutes(context, () => contributed.faults),
    ...planRoutes(context),
    ...hookRoutes(context),
    ...runRoutes(context),
    ...clearRoutes(context),
    ...approvalRoutes(context),
    ...backfillRoutes(context),
    ...taskRoutes(context),
    ...whyRoutes(context),
    ...limitRoutes(context),
    ...logRoutes(context),
    ...streamRoutes(context),
    ...hostRoutes(context),
    ...lineageRoutes(context),
  ]
  const contributed = contributedRoutes(context, platform)
  const ingest = ingestOf(parts, platform, contributed.routes)
  const mounted = [...platform, ...contributed.routes]
  const routes = [...mounted, ...ingest.routes]
  let made: object | undefined
  const document = (): object => {
    made ??= openApiDocument(routes, parts.version)
    return made
  }

  const app = createServer(limits, parts)
  guard(app, parts, methodTable(routes))
  for (const route of mounted) mount(app, route, closing.signal)
  for (const point of ingest.points) mountIngest(app, point, limits.jsonDepth)
  await app.ready()

  return {
    app,
    faults: [...contributed.faults, ...ingest.faults],
    listen: (port, host = '127.0.0.1') => listen(app, port, host),
    close: () => close(app, closing, limits.closeMs, tails.close),
  }
}

function createServer(limits: HttpLimits, { log }: ApiParts): FastifyInstance {
  const start = randomUUID().slice(0, 8)
  let requests = 0
  const app = fastify({
    bodyLimit: limits.bodyBytes,
    requestTimeout: limits.requestMs,
    connectionTimeout: limits.idleMs,
    keepAliveTimeout: limits.keepAliveMs,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: 200 },
    genReqId: () => `${start}-${(++requests).toString(36)}`,
    http: {
      headersTimeout: limits.headersMs,
      connectionsCheckingInterval: limits.checkEveryMs,
      maxHeaderSize: limits.headerBytes,
      // A request without Host is refused by the guard, with a problem document.
      requireHostHeader: false,
    },
    clientErrorHandler: (error, socket) => refuseUnreadable(error, socket),
    frameworkErrors: (error, request, reply) => fail(error, request, reply, log),
  })
  app.server.maxConnections = limits.connections
  refuseOddities(app.server)
  readJsonBodies(app, limits.jsonDepth)
  app.setErrorHandler((thrown, request, reply) => fail(thrown, request, reply, log))
  return app
}

function guard(
  app: FastifyInstance,
  { allowedHosts }: ApiParts,
  allowedMethods: (path: string) => readonly string[],
): void {
  let port: number | undefined
  app.addHook('onRequest', (request, reply, done) => {
    reply.headers(securityHeaders)
    // Asked once: it is a call into the system.
    port ??= (app.server.address() as AddressInfo | null)?.port
    const refusal = refusalOf(request.method, request.headers, { hosts: allowedHosts, port }) ?? formFault(request.raw)
    if (refusal) return done(refusal)
    if (!request.is404) return done()
    const path = pathOf(request)
    const methods = allowedMethods(path)
    if (methods.length === 0) return done(new SluiceError('NOT_FOUND', `There is nothing at ${path}`))
    reply.header('allow', methods.join(', '))
    done(
      new SluiceError(
        'METHOD_NOT_ALLOWED',
        `${request.method} is not allowed at ${path}; allowed are ${methods.join(', ')}`,
      ),
    )
  })
}

function mount(app: FastifyInstance, route: Route, closing: AbortSignal): void {
  const { method, path: url, upload } = route
  const handler = async (request: FastifyRequest, reply: FastifyReply) => {
    const reading = readInput(route, request)
    const input = reading instanceof Promise ? await reading : reading
    let signal: AbortSignal | undefined
    const answer = await route.handle({
      ...input,
      get signal() {
        signal ??= signalOf(reply, closing)
        return signal
      },
      whenOver: (call) => whenOver(reply, call),
    })
    return send(reply, answer)
  }
  if (!upload) {
    app.route({ method, url, handler })
    return
  }
  // Parsers belong to a scope: this route alone takes these types.
  app.register(async (scope) => {
    if (route.body === undefined) scope.removeAllContentTypeParsers()
    for (const type of upload.types) {
      scope.addContentTypeParser(type, async (request: FastifyRequest) => {
        if (Number(request.headers['content-length'] ?? 0) > upload.maxBytes) throw tooLarge(upload.maxBytes)
        return new Upload(request.raw, upload.maxBytes)
      })
    }
    scope.route({ method, url, handler })
  })
}

function fail(thrown: unknown, request: FastifyRequest, reply: FastifyReply, log: ApiParts['log']): void {
  const error = errorOf(thrown)
  const instance = `${pathOf(request)}#${request.id}`
  if (isOurs(error) && !request.raw.destroyed) {
    const cause = error.cause instanceof Error ? error.cause : error
    log.error('a request failed', {
      instance,
      method: request.method,
      code: error.code,
      error: error.message,
      stack: cause.stack,
    })
  }
  if (error.retryAfterMs !== undefined) reply.header('retry-after', String(Math.ceil(error.retryAfterMs / 1000)))
  // Whatever of the body is still coming is not waited for.
  if (!request.raw.complete) reply.header('connection', 'close')
  // What the router itself refuses has not met the guard, which sets them.
  reply.headers(securityHeaders)
  reply
    .code(error.status)
    .type(problemType)
    .send(Buffer.from(JSON.stringify(problemOf(error, instance))))
}

function pathOf(request: FastifyRequest): string {
  const [path = ''] = request.raw.url?.split('?') ?? []
  return path.slice(0, 200)
}

async function listen(app: FastifyInstance, port: number, host: string): Promise<string> {
  if (!isLoopbackHost(host)) {
    throw new SluiceError(
      'CONFIGURATION',
      `The server listens to this machine only (127.0.0.1, ::1 or localhost), not on ${host}, until it has users`,
    )
  }
  await app.listen({ port, host }).catch((cause: NodeJS.ErrnoException) => {
    const why = cause.code === 'EADDRINUSE' ? 'another program has it' : cause.message
    throw new SluiceError('CONFIGURATION', `Port ${port} on ${host} cannot be had: ${why}`, { cause })
  })
  return `http://localhost:${(app.server.address() as AddressInfo).port}`
}

async function close(
  app: FastifyInstance,
  closing: AbortController,
  closeMs: number,
  closeTails: () => Promise<void>,
): Promise<void> {
  closing.abort()
  const impatience = setTimeout(() => app.server.closeAllConnections(), closeMs)
  // A connection whose answer ends now was not idle when closing began, and would be kept for another request.
  const sweep = setInterval(() => app.server.closeIdleConnections(), 20)
  try {
    await app.close()
    await closeTails()
  } finally {
    clearTimeout(impatience)
    clearInterval(sweep)
  }
}
