// A rule for oxlint: nothing replaces a field while the index or the new value of one of its elements is computed.
//
// JavaScript reads `this.#column` before it calls what stands in the brackets or behind the `=`. A call that replaces the column, as
// growing it does, makes the assignment write to the old one, in silence.

interface Node {
  readonly type: string
  readonly [key: string]: unknown
}

interface Context {
  readonly report: (problem: { readonly node: Node; readonly message: string }) => void
}

const MESSAGE =
  'This call may replace the field, and the assignment then writes to the old one. Make the call in a statement of its own before.'

const settledTarget = {
  create(context: Context) {
    const check = (target: Node, value: Node | undefined) => {
      if (target.type !== 'MemberExpression' || target['computed'] !== true) return
      // A local constant keeps its value.
      if ((target['object'] as Node).type !== 'MemberExpression') return
      const call = findCall(target['property'], () => true) ?? findCall(value, isOwnMethod)
      if (call !== undefined) context.report({ node: call, message: MESSAGE })
    }
    return {
      AssignmentExpression(node: Node) {
        check(node['left'] as Node, node['right'] as Node)
      },
      UpdateExpression(node: Node) {
        check(node['argument'] as Node, undefined)
      },
    }
  },
}

/** Finds a call that runs when the expression is evaluated. One in a function does not. */
function findCall(part: unknown, isMeant: (call: Node) => boolean): Node | undefined {
  if (Array.isArray(part))
    return part.map((item) => findCall(item, isMeant)).find((call) => call !== undefined)
  if (!isNode(part) || /Function/.test(part.type)) return undefined
  if (part.type === 'CallExpression' && !isOfMath(part) && isMeant(part)) return part
  const children = Object.entries(part).filter(([key]) => key !== 'parent')
  return findCall(
    children.map(([, child]) => child),
    isMeant,
  )
}

function isNode(part: unknown): part is Node {
  return typeof part === 'object' && part !== null && 'type' in part && typeof part.type === 'string'
}

function isOwnMethod({ callee }: Node): boolean {
  return rootOf(callee as Node).type === 'ThisExpression'
}

function rootOf(node: Node): Node {
  return node.type === 'MemberExpression' ? rootOf(node['object'] as Node) : node
}

function isOfMath({ callee }: Node): boolean {
  return rootOf(callee as Node)['name'] === 'Math'
}

const plugin = { meta: { name: 'loam' }, rules: { 'settled-target': settledTarget } }
export { plugin as default }
