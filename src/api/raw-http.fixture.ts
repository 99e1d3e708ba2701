/** Bytes on a socket, for requests that no client would send. */
import { connect } from 'node:net'

const deadlineMs = 20_000

/**
 * Sends the bytes (with `end` and nothing after them) and gives what was answered when the server has closed the connection.
 * @throws Error when it keeps it open past a deadline: it hangs.
 */
export function exchange(port: number, sent: string | Uint8Array, end?: 'end'): Promise<string> {
  return new Promise((resolve, reject) => {
    let received = ''
    const socket = connect(port, '127.0.0.1', () => (end ? socket.end(sent) : socket.write(sent)))
    const timer = setTimeout(() => {
      socket.destroy()
      reject(new Error(`no end of ${JSON.stringify(String(sent).slice(0, 200))}; so far: ${received.slice(0, 500)}`))
    }, deadlineMs)
    socket.setEncoding('latin1')
    socket.on('data', (text) => {
      received += text
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      clearTimeout(timer)
      resolve(received)
    })
  })
}

export interface RawAnswer {
  readonly status: number
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** The answers of an exchange; those of `100 Continue` are passed over. @throws Error for what is no answer. */
export function answersIn(received: string): RawAnswer[] {
  const answers: RawAnswer[] = []
  let rest = received
  while (rest !== '') {
    const end = rest.indexOf('\r\n\r\n')
    const [line = '', ...lines] = rest.slice(0, end).split('\r\n')
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(line)?.[1])
    if (end < 0 || Number.isNaN(status)) throw new Error(`no answer: ${rest.slice(0, 200)}`)
    const headers = Object.fromEntries(lines.map(headerOf))
    const length = Number(headers['content-length'] ?? 0)
    const body = Buffer.from(rest.slice(end + 4, end + 4 + length), 'latin1').toString()
    rest = rest.slice(end + 4 + length)
    if (status !== 100) answers.push({ status, headers, body })
  }
  return answers
}

/** The only answer of an exchange. */
export function answerIn(received: string): RawAnswer {
  const [answer, ...more] = answersIn(received)
  if (answer === undefined || more.length > 0) throw new Error(`not one answer: ${received.slice(0, 500)}`)
  return answer
}

function headerOf(line: string): readonly [string, string] {
  const colon = line.indexOf(':')
  return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
}
