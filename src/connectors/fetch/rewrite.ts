import { SluiceError } from '../../errors.ts'

/**
 * Sends URLs that start with `from` to `to`: the rest of the path and the query are kept. `from` matches by scheme, host
 * and port, and by whole path segments, so that `https://pictures.test` matches neither `https://pictures.test.evil.test`
 * nor `https://pictures.test@evil.test`.
 */
export interface RewriteRule {
  readonly from: URL
  readonly to: URL
}

/** @throws SluiceError CONFIGURATION naming the rule, when a side is not a plain http(s) URL. */
export function parseRewriteRules(rules: readonly { from: string; to: string }[]): RewriteRule[] {
  return rules.map((rule, index) => ({
    from: parseSide(rule.from, `rewrite[${index}].from`),
    to: parseSide(rule.to, `rewrite[${index}].to`),
  }))
}

function parseSide(text: string, where: string): URL {
  const url = URL.parse(text)
  const plain = url && /^https?:$/.test(url.protocol) && !url.username && !url.password && !url.search && !url.hash
  if (!plain) {
    throw new SluiceError(
      'CONFIGURATION',
      `${where}: "${text}" must be an http(s) URL without credentials, query or fragment`,
    )
  }
  return url
}

/** The address to ask instead of `url`, by the first rule that matches, or `undefined`. */
export function rewritten(url: URL, rules: readonly RewriteRule[]): URL | undefined {
  for (const { from, to } of rules) {
    const moved = move(url, from, to)
    if (moved) return moved
  }
  return undefined
}

/** The other way: what `actual`, under the target of a rule, is called by those who know only its `from`. */
export function restored(actual: URL, rules: readonly RewriteRule[]): URL | undefined {
  for (const { from, to } of rules) {
    const moved = move(actual, to, from)
    if (moved) return moved
  }
  return undefined
}

function move(url: URL, from: URL, to: URL): URL | undefined {
  if (url.origin !== from.origin) return undefined
  const prefix = from.pathname.replace(/\/+$/, '')
  const rest = url.pathname.slice(prefix.length)
  if (!url.pathname.startsWith(prefix) || (rest !== '' && !rest.startsWith('/'))) return undefined
  const moved = new URL(to)
  moved.pathname = to.pathname.replace(/\/+$/, '') + rest
  moved.search = url.search
  return moved
}
