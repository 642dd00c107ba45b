-- busted for the interpreter at hand: Debian's /usr/bin/busted takes whatever `lua` is.
require "busted.runner" { standalone = false }
