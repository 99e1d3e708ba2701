import type { FastifyInstance } from 'fastify'
import { SluiceError } from '../errors.ts'

/**
 * Whether a JSON text has more arrays and objects within one another than `limit`. Looks at brackets only, so that a
 * bomb of them is refused before it is parsed and walked by recursive code.
 */
export function isDeeperThan(limit: number, json: string): boolean {
  if (json.length <= limit) return false
  let depth = 0
  let inText = false
  for (let at = 0; at < json.length; at += 1) {
    const unit = json.charCodeAt(at)
    if (inText) {
      if (unit === backslash) at += 1
      else if (unit === quote) inText = false
    } else if (unit === quote) inText = true
    else if (unit === openBrace || unit === openBracket) {
      depth += 1
      if (depth > limit) return true
    } else if (unit === closeBrace || unit === closeBracket) depth -= 1
  }
  return false
}

const [quote, backslash, openBrace, closeBrace, openBracket, closeBracket] = [34, 92, 123, 125, 91, 93]

/** JSON is the only body that is read, but for uploads: no depth bombs, no `__proto__` and `constructor.prototype`. */
export function readJsonBodies(app: FastifyInstance, maxDepth: number): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, text, done) => {
    const body = text as string
    if (isDeeperThan(maxDepth, body)) {
      const fault = { where: '/body', message: `is nested deeper than ${maxDepth} levels` }
      done(new SluiceError('INVALID_INPUT', `The body is nested deeper than ${maxDepth} levels`, { faults: [fault] }))
      return
    }
    parse(request, body, done)
  })
}
