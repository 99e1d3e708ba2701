/**
 * The OpenAPI document, and Swagger UI over it. The files of Swagger UI are served from their package as they are asked
 * for: registering its plugin costs 25 ms and 3 MB at every start, and few starts need it.
 */
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { SluiceError } from '../errors.ts'
import { reply } from '../sdk/endpoint.ts'
import { z } from '../sdk/schema.ts'
import { type Route, route } from './route.ts'

const files: Readonly<Record<string, string>> = {
  'swagger-ui.css': 'text/css; charset=utf-8',
  'swagger-ui-bundle.js': 'text/javascript; charset=utf-8',
  'favicon-32x32.png': 'image/png',
}

const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Sluice API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
`
const start = `SwaggerUIBundle({ url: '/openapi.json', dom_id: '#swagger-ui', deepLinking: true, validatorUrl: null })\n`

const policy =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"

export function docsRoutes(document: () => object): Route[] {
  return [
    route({
      method: 'GET',
      path: '/openapi.json',
      tag: 'documentation',
      summary: 'This document',
      answers: { 200: { description: 'OpenAPI 3.1', schema: z.looseObject({ openapi: z.string() }) } },
      handle: document,
    }),
    route({
      method: 'GET',
      path: '/docs',
      tag: 'documentation',
      summary: 'Swagger UI',
      answers: { 200: { description: 'A page', type: 'text/html' } },
      handle: () => reply(200, page, { 'content-type': 'text/html; charset=utf-8', 'content-security-policy': policy }),
    }),
    route<{ file: string }>({
      method: 'GET',
      path: '/docs/:file',
      tag: 'documentation',
      summary: 'What the page of Swagger UI loads',
      params: z.object({ file: z.string().meta({ examples: Object.keys(files) }) }),
      answers: { 200: { description: 'A file', type: '*/*' } },
      handle: async ({ params }) => {
        if (params.file === 'start.js') return reply(200, start, { 'content-type': 'text/javascript; charset=utf-8' })
        const type = Object.hasOwn(files, params.file) ? files[params.file] : undefined
        if (!type)
          throw new SluiceError('NOT_FOUND', `There is no file ${JSON.stringify(params.file)} in the documentation`)
        return reply(200, await readFile(join(folder(), params.file)), {
          'content-type': type,
          'cache-control': 'max-age=86400',
        })
      },
    }),
  ]
}

function folder(): string {
  return dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'))
}
