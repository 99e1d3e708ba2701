/** Names of the parts of a document: JSON pointers (RFC 6901). */

export interface Places {
  /** `file:line:column` of what a JSON pointer names, or of its key; of the nearest around it that the file has. */
  of(pointer: string, part?: 'key' | 'value'): string
}

const escaped = (key: string) => key.replaceAll('~', '~0').replaceAll('/', '~1')

/** The pointer of a part of what another names. */
export function below(pointer: string, ...keys: readonly (string | number)[]): string {
  return [pointer, ...keys.map((key) => escaped(String(key)))].join('/')
}
