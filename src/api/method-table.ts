import type { Route } from './route.ts'

/** Which methods a path is known under; none: it is not known. Asked only about requests that no route takes. */
export function methodTable(routes: readonly Pick<Route, 'method' | 'path'>[]): (path: string) => readonly string[] {
  const known = routes.map(({ method, path }) => ({ method, segments: path.split('/') }))
  return (path) => {
    const segments = path.split('/')
    const methods = new Set(
      known.filter((route) => fits(route.segments, segments)).map(({ method }) => method as string),
    )
    if (methods.has('GET')) methods.add('HEAD')
    return [...methods].sort()
  }
}

/** Whether a concrete path, in segments, is one of those that a route's path stands for. */
export function fits(pattern: readonly string[], segments: readonly string[]): boolean {
  return (
    pattern.length === segments.length &&
    pattern.every((part, index) => (part.startsWith(':') ? segments[index] !== '' : part === segments[index]))
  )
}
