/*
 * What a shell reads once. At each press of Tab it asks `loam __complete -- WORDS`, whose last word is the one to complete, and which prints
 * a line for each possible word: the word, a tab and its description. The line `:files` or `:directories` lets the shell offer those, too;
 * with `:nospace` the word goes on behind one.
 */
export const SHELLS = ['bash', 'zsh', 'fish'] as const

export type Shell = (typeof SHELLS)[number]

const BASH = `# bash completion for loam, printed by \`loam completion bash\`. Load it with: source <(loam completion bash)
_loam() {
  local word rest=\${COMP_LINE:0:COMP_POINT} trimmed current line kinds= i
  local -a words=()
  # bash splits words at : and =, which names of images and options contain: what has no space between is one word.
  for ((i = 0; i <= COMP_CWORD; i++)); do
    trimmed=\${rest#"\${rest%%[![:space:]]*}"}
    word=\${COMP_WORDS[i]}
    ((i == COMP_CWORD)) && word=\${word:0:\${#trimmed}}
    if ((i > 0)) && [[ $trimmed == "$rest" ]]; then words[-1]+=$word; else words+=("$word"); fi
    rest=\${trimmed#"$word"}
  done
  current=\${words[-1]}
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      :*) kinds+=$line ;;
      *) COMPREPLY+=("\${line%%$'\\t'*}") ;;
    esac
  done < <("\${COMP_WORDS[0]}" __complete -- "\${words[@]:1}" 2>/dev/null)
  # A word that ends so goes on.
  [[ \${#COMPREPLY[@]} -eq 1 && \${COMPREPLY[0]} == *[=:/] ]] && compopt -o nospace 2>/dev/null
  [[ $kinds == *:nospace* ]] && compopt -o nospace 2>/dev/null
  case $kinds in
    *:files*) compopt -o filenames 2>/dev/null; mapfile -t -O "\${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "\${current##*=}") ;;
    *:directories*) compopt -o filenames 2>/dev/null; mapfile -t -O "\${#COMPREPLY[@]}" COMPREPLY < <(compgen -d -- "\${current##*=}") ;;
  esac
  # bash replaces what is behind the last : or =.
  local known=
  [[ $COMP_WORDBREAKS == *:* ]] && known+=:
  [[ $COMP_WORDBREAKS == *=* ]] && known+==
  if [[ -n $known && $current == *["$known"]* ]]; then
    local done=\${current%"\${current##*["$known"]}"}
    COMPREPLY=("\${COMPREPLY[@]#"$done"}")
  fi
}
complete -F _loam loam
`

const ZSH = `#compdef loam
# zsh completion for loam, printed by \`loam completion zsh\`: write it to a file named _loam in a directory of $fpath, or
# load it with: source <(loam completion zsh)
_loam() {
  local line value kinds=
  local -a known described typed
  typed=("\${(@Q)words[2,CURRENT-1]}" "\${(Q)PREFIX}")
  # zsh takes \`--option=\` from the word before it completes what follows.
  [[ -n $IPREFIX ]] && typed[-1]="$IPREFIX\${(Q)PREFIX}"
  known=("\${(@f)$("\${words[1]}" __complete -- "\${typed[@]}" 2>/dev/null)}")
  for line in "\${known[@]}"; do
    case $line in
      '') ;;
      :*) kinds+=$line ;;
      *)
        value=\${line%%$'\\t'*}
        described+=("\${value//:/\\\\:}\${\${line#*$'\\t'}:+:\${line#*$'\\t'}}") ;;
    esac
  done
  if (( \${#described} )); then
    if [[ \${#described} -eq 1 && $value == *[=:/] ]]; then _describe 'loam' described -S ''; else _describe 'loam' described; fi
  fi
  case $kinds in
    *:files*:nospace*) _files -S '' ;;
    *:files*) _files ;;
    *:directories*) _files -/ ;;
  esac
}
if [[ $funcstack[1] == _loam ]]; then _loam "$@"; else compdef _loam loam; fi
`

const FISH = `# fish completion for loam, printed by \`loam completion fish\`. Load it with: loam completion fish | source
function __loam_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -e words[1]
    for line in (command loam __complete -- $words $current 2>/dev/null)
        switch $line
            case ':files'
                __fish_complete_path $current
            case ':directories'
                __fish_complete_directories $current
            case ':*'
            case '*'
                echo $line
        end
    end
end
complete -c loam -f -a '(__loam_complete)'
`

const SCRIPTS: Readonly<Record<Shell, string>> = { bash: BASH, zsh: ZSH, fish: FISH }

/** Returns the completion script of a shell. */
export function completionScript(shell: Shell): string {
  return SCRIPTS[shell]
}
