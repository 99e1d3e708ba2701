/** What a line of a catalog may be. */

/** UTF-8 bytes of a line at most; a longer one is a record too, and is rejected. */
export const maxLineBytes = 8_192

/** Why a line is no URL that can be fetched, or undefined. Whether its host may be asked is decided by the connection. */
export function urlFault(text: string): string | undefined {
  if (/[\0-\x20\x7f\ufffd]/.test(text)) return 'there is white space in it, or a character that no URL has'
  const url = URL.parse(text)
  if (url === null) return 'it is not a URL'
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return `the scheme ${url.protocol} is not http: or https:`
  if (url.username !== '' || url.password !== '') return 'it carries credentials'
  return undefined
}

/** Host and port; the empty text for what is no URL. */
export function hostOf(text: string): string {
  return URL.parse(text)?.host ?? ''
}
