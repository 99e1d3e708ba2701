/**
 * What a line of a catalog may be, and when two lines are the same URL.
 *
 * 1. A line is fetched when it is an absolute http or https URL (WHATWG) with a host, of at most `maxLineBytes`, without
 *    credentials, white space, control characters and backslashes. Any other is malformed and is rejected, each by name.
 * 2. Credentials never get further than here: what shows a line shows `***` in their place. Only the file itself, which
 *    is kept as it came, has them.
 * 3. Two lines are the same URL when their canonical texts are equal: scheme and host in lower case, the host in Punycode
 *    (so letters that only look alike differ), no default port, no fragment, dot segments resolved, letters, digits and
 *    `-._~` not percent-encoded, other escapes in upper case. Path, query and its order, and a dot behind the host count.
 */

/** UTF-8 bytes of a line at most; a longer one is a record too, and is rejected. */
export const maxLineBytes = 8_192

/** Also what turns the text around it, and what is invisible: nobody shall see another URL than is fetched. */
const noUrlHas = /[\p{Cc}\p{White_Space}\p{Bidi_Control}\ufeff\ufffd\\]/u

/** Why a line is no URL that can be fetched, or undefined. Whether its host may be asked is decided by the connection. */
export function urlFault(text: string): string | undefined {
  if (noUrlHas.test(text)) return 'there is white space in it, or a character that no URL has'
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(text)?.[1]?.toLowerCase()
  if (scheme === undefined) return 'it does not begin with http:// or https://'
  if (scheme !== 'http' && scheme !== 'https') return `the scheme ${scheme.slice(0, 30)}: is not http: or https:`
  if (!/^https?:\/\/[^/?#]/i.test(text)) return 'it has no host'
  const url = URL.parse(text)
  if (url === null) return 'it is not a URL: its host or port cannot be'
  if (url.username !== '' || url.password !== '') return 'it carries credentials'
  if (url.port === '0') return 'its port is 0'
  return hostFault(url.hostname)
}

/** DNS has no longer names. */
function hostFault(host: string): string | undefined {
  const labels = host.replace(/\.$/, '').split('.')
  const fits = host.length <= 254 && labels.every((label) => label.length >= 1 && label.length <= 63)
  return fits || host.startsWith('[') ? undefined : 'its host is longer than any name, or has an empty part'
}

/** The text with `***` for what is or may be name and password in it. */
export function withoutCredentials(text: string): string {
  if (!text.includes('@') || urlFault(text) === undefined) return text
  const url = URL.parse(text)
  if (url !== null && /^https?:$/.test(url.protocol) && (url.username !== '' || url.password !== '')) {
    url.username = '***'
    url.password = ''
    return url.href
  }
  // Of an unknown scheme nobody knows whether it is one, or a name.
  return text.replace(/^((?:https?|ftp|wss?):(?=[/\\]))?([/\\]*).*@/is, '$1$2***@')
}

/** One text for all spellings of a URL; what is none is as it is. */
export function canonicalUrl(text: string): string {
  const url = urlFault(text) === undefined ? URL.parse(text) : null
  if (url === null) return text
  url.hash = ''
  return url.href.replace(/%[0-9a-f]{2}/gi, (escaped) => {
    const character = String.fromCharCode(Number.parseInt(escaped.slice(1), 16))
    return /[A-Za-z0-9._~-]/.test(character) ? character : escaped.toUpperCase()
  })
}

/** Host and port; the empty text for what is no URL. */
export function hostOf(text: string): string {
  return URL.parse(text)?.host ?? ''
}
