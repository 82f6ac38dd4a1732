#!/bin/sh
# check_docs_test.sh CHECK-DOCS: it must find each kind of fault, at its line, and nothing in a page without any.
# shellcheck disable=SC2016  # the backticks are Markdown's
set -eu
check=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/docs"
printf 'demo:\n\ttrue\n' >"$root/Makefile"
printf 'int x;\n' >"$root/docs/x.cc"
cat >"$root/sealift" <<'END'
#!/bin/sh
printf 'Subcommands:\n  run      Run\n\nExit codes:\n  0 done\n'
END
chmod +x "$root/sealift"

write() { cat >"$root/README.md"; }
run() { "$check" --root "$root" "$root/sealift" 2>&1; }

write <<'END'
# A page: with `code`
[itself](#a-page-with-code), [a file](docs/x.cc), `docs/x.cc`, `docs/*.cc`, `sealift run
x`, `make demo`, `"sealift local session"`, `[](none)` [web](https://example.org/x)
<!-- source: docs/x.cc -->
```cpp
int x;
```
END
run >/dev/null || { echo "FAIL: a good page was refused:"; run; exit 1; }

finds() { # message
  if said=$(run); then echo "FAIL: accepted, but must say: $1"; exit 1; fi
  case $said in *"README.md:$1"*) ;; *) echo "FAIL: must say: $1"; echo "$said"; exit 1 ;; esac
}
printf 'x\n[gone](docs/none.md)\n' | write
finds '1: link to docs/none.md: no such file'
printf '[gone](#none)\n' | write
finds '1: link to #none: no such heading'
printf 'x\n\n`docs/none.cc`\n' | write
finds '3: names docs/none.cc: no such file'
printf '```\nmake none\n```\n' | write
finds '2: `make none`: the Makefile has no such target'
printf '`sealift\nnone`\n' | write
finds '1: `sealift none`: --help has no such subcommand'
printf '```\n"$bin/sealift" none\n```\n' | write
finds '2: `sealift none`: --help has no such subcommand'
printf '<!-- source: docs/x.cc -->\n```\nint y;\n```\n' | write
finds '1: the code block is not docs/x.cc as it is now'
echo "ok: every kind of fault is found"
