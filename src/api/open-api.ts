/** The OpenAPI 3.1 document of all routes. Made when first asked for: 15 ms that a start need not pay. */
import { type ErrorCode, errorTable } from '../errors.ts'
import { type Schema, z } from '../sdk/schema.ts'
import { problemSchema, problemType } from './problem.ts'
import type { Answer, Route } from './route.ts'

type Json = Record<string, unknown>

export function openApiDocument(routes: readonly Route[], version: string): object {
  const schemas: Json = { Problem: jsonSchema(problemSchema, 'output', 'Problem', {}) }
  const paths: Record<string, Json> = {}
  for (const route of routes) {
    const path = route.path.replace(/:([^/]+)/g, '{$1}')
    paths[path] ??= {}
    paths[path][route.method.toLowerCase()] = operation(route, schemas)
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Sluice',
      version,
      description:
        'Data workflows and record streams. Errors are problem documents (RFC 9457); times are RFC 3339, UTC.',
    },
    tags: [...new Set(routes.map((route) => route.tag))].map((name) => ({ name })),
    paths,
    components: { schemas },
  }
}

function operation(route: Route, schemas: Json): Json {
  const name = operationId(route)
  return {
    operationId: name,
    tags: [route.tag],
    summary: route.summary,
    ...(route.description && { description: route.description }),
    parameters: [
      ...pathParameters(route, name, schemas),
      ...parameters('query', route.query, name, schemas),
      ...parameters('header', route.headers, name, schemas),
    ],
    ...requestBody(route, name, schemas),
    responses: responses(route, name, schemas),
  }
}

/** `GET /api/v1/runs/:id/tasks` is `getRunsIdTasks`. */
function operationId({ method, path }: Route): string {
  const words = path.replace(/^\/api\/v1/, '').split(/[^A-Za-z0-9]+/)
  return method.toLowerCase() + words.map((word) => word.slice(0, 1).toUpperCase() + word.slice(1)).join('')
}

function pathParameters(route: Route, name: string, schemas: Json): Json[] {
  const declared = parameters('path', route.params, name, schemas)
  const names = [...route.path.matchAll(/:([^/]+)/g)].map((match) => match[1] as string)
  return names.map(
    (part) =>
      declared.find((parameter) => parameter.name === part) ?? {
        name: part,
        in: 'path',
        required: true,
        schema: { type: 'string' },
      },
  )
}

function parameters(
  place: 'path' | 'query' | 'header',
  schema: Schema | undefined,
  name: string,
  schemas: Json,
): Json[] {
  if (!schema) return []
  const { properties = {}, required = [] } = jsonSchema(schema, 'input', `${name}.${place}`, schemas) as {
    properties?: Record<string, Json>
    required?: string[]
  }
  return Object.entries(properties).map(([field, { description, ...type }]) => ({
    name: field,
    in: place,
    required: place === 'path' || required.includes(field),
    ...(description !== undefined && { description }),
    schema: type,
  }))
}

function requestBody({ body, bodyExample, upload }: Route, name: string, schemas: Json): Json {
  if (!body && !upload) return {}
  const content: Json = {}
  if (body) {
    const schema = jsonSchema(body, 'input', `${name}.body`, schemas)
    content['application/json'] = { schema, ...(bodyExample !== undefined && { example: bodyExample }) }
  }
  for (const type of upload?.types ?? [])
    content[type] = { schema: { type: 'string', format: 'binary', maxLength: upload?.maxBytes } }
  return { requestBody: { required: body ? !body.safeParse(undefined).success : true, content } }
}

function responses(route: Route, name: string, schemas: Json): Json {
  const found: Json = {}
  for (const [status, answer] of Object.entries(route.answers)) {
    found[status] = { description: answer.description, ...content(answer, `${name}.${status}`, schemas) }
  }
  const codes: ErrorCode[] = ['FORBIDDEN_HOST', ...(route.errors ?? []), ...impliedErrors(route), 'INTERNAL']
  for (const status of new Set(codes.map((code) => errorTable[code].status))) {
    const titles = [...new Set(codes)].filter((code) => errorTable[code].status === status)
    const description = titles.map((code) => `${code}: ${errorTable[code].title}`).join('; ')
    found[status] ??= { description, content: { [problemType]: { schema: { $ref: '#/components/schemas/Problem' } } } }
  }
  return found
}

function content({ schema, type = 'application/json', example }: Answer, name: string, schemas: Json): Json {
  if (!schema && type === 'application/json') return {}
  const body = schema ? jsonSchema(schema, 'output', name, schemas) : {}
  return { content: { [type]: { schema: body, ...(example !== undefined && { example }) } } }
}

function impliedErrors({ body, upload, path, method }: Route): ErrorCode[] {
  const codes: ErrorCode[] = ['USAGE', 'INVALID_INPUT']
  if (path.includes(':')) codes.push('NOT_FOUND')
  if (body || upload || method !== 'GET') codes.push('MALFORMED_JSON', 'BODY_TOO_LARGE', 'UNSUPPORTED_MEDIA_TYPE')
  return codes
}

/** The JSON Schema of a zod schema. What it defines by name moves to `schemas`, since references start at the document. */
function jsonSchema(schema: Schema, io: 'input' | 'output', name: string, schemas: Json): Json {
  const { $schema: _, $defs, ...own } = z.toJSONSchema(schema, { io, unrepresentable: 'any' }) as Json
  const refersToItself = JSON.stringify(own).includes('"$ref":"#')
  if (!refersToItself) return own
  const moved = (value: object): Json =>
    JSON.parse(JSON.stringify(value), (key, inner: unknown) => {
      if (key !== '$ref' || typeof inner !== 'string') return inner
      return inner.replace(/^#(?:\/\$defs\/)?/, (start) => `#/components/schemas/${name}${start === '#' ? '' : '.'}`)
    })
  for (const [key, value] of Object.entries(($defs ?? {}) as Record<string, object>))
    schemas[`${name}.${key}`] = moved(value)
  schemas[name] = moved(own)
  return { $ref: `#/components/schemas/${name}` }
}
