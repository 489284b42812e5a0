# SPDX-License-Identifier: Apache-2.0
"""ipvsadm's language, pure: its words become commands, and what it lists is printed byte for byte.

    words  --language.parse()-->  command   --(whoever runs it)-->  views  --output-->  text

commands.py     what can be asked for, as data
language.py     words to a command; the errors are ipvsadm's own
draft.py        a command while its words are read
words.py        how popt, which ipvsadm is built with, takes words apart
options.py      the options by name, and which command takes which
checks.py       what options must be together
values.py       numbers, addresses, marks and masks
names.py        hosts and services by name, both ways: hooks
restore.py      the lines of `ipvsadm -R`
views.py        what is listed, as data
output.py       -L and its layouts
connections.py  -Lc
extras.py       -L --timeout, -L --daemon, -G
save.py         -S
columns.py      numbers and addresses, to their width
order.py        the order that services and servers are listed in
answers.py      what ipvsadm says when the kernel refuses a command
usage.py        -h and -v
procfs.py       /proc/net/ip_vs, ip_vs_stats and ip_vs_conn

The peer is ipvsadm 1.31, whose words and bytes are recorded in tests/unit/golden/ipvsadm.  DPVS's words
for full NAT are taken too.
"""
