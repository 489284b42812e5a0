#!/bin/sh
# render.toml by ipvsadm: fullnat render ipvsadm -c render.toml
# The virtual and the local addresses must be this host's.
# Run again, this replaces what it made; where it fails, all is as it was.
# Otherwise than there: tcp://[2001:db8:1::10]:80: scheduler random becomes wlc
set -feu

if { iptables-save; ip6tables-save; } 2>/dev/null | grep -q '^:FULLNAT-web-1 '; then
	echo 'fullnat runs here as instance web-1, or has left its rules:' 'fullnat stop --instance web-1' >&2
	exit 1
fi

# ours PROGRAM TABLE: chains and rules of instance web-1, as PROGRAM-save prints them
ours() {
	"$1-save" 2>/dev/null | sed -n "/^\*$2\$/,/^COMMIT/p" | sed -n \
		-e 's/^\(:FULLNAT-web-1\.[^ ]*\) .*/\1 - [0:0]/p' \
		-e '/^-A FULLNAT-web-1\./{p;d;}' \
		-e '/ -j FULLNAT-web-1\.[a-z0-9]*$/p'
}

# saved PROGRAM: all of them, as input of load
saved() {
	for table in filter nat; do
		echo "*$table"
		ours "$1" "$table" | sed 's/^-A \([A-Z]*\) /-I \1 1 /'
		echo COMMIT
	done
}

# load PROGRAM: the rules on stdin, in place of ours, in one step
load() {
	while IFS= read -r line; do
		printf '%s\n' "$line"
		case $line in
		\**)
			old=$(ours "$1" "${line#?}")
			printf '%s\n' "$old" | sed -n -e '/^:/p'
			printf '%s\n' "$old" | sed -n -e '/^-A FULLNAT-web-1\./!s/^-A /-D /p'
			printf '%s\n' "$old" | sed -n -e 's/^:\([^ ]*\) .*/-X \1/p'
			;;
		esac
	done | "$1-restore" --noflush
}

# have PROGRAM RULES: the same, unless they are there
have() {
	[ "$(saved "$1")" = "$2" ] || printf '%s\n' "$2" | load "$1"
}

# drop: take out the virtual services whose addresses are on stdin
drop() {
	while read -r address; do
		ipvsadm -D $address 2>/dev/null || :
	done
}

# restore: make the virtual services on stdin
restore() {
	said=$(ipvsadm --restore 2>&1) && [ -z "$said" ] || {
		echo "ipvsadm: $said" >&2
		return 1
	}
}

modprobe -q ip_vs || :
sysctl -q -w net.ipv4.vs.conntrack=1

# What is there of these virtual services, and of those that an earlier run made
wanted=$(cat <<'EOF'
-t 203.0.113.10:80
-u 203.0.113.10:53
-t 203.0.113.11:443
-t [2001:db8:1::10]:80
-u [2001:db8:1::10]:53
EOF
)
old=$({ ours iptables filter; ours ip6tables filter; } | sed -n 's/.*--comment "fullnat web-1: ipvsadm \([^"]*\)".*/\1/p')
lines=$(printf '%s\n' "$wanted" "$old" | sed -n 's/^-.*/ & -s \n & -r /p')
present=$(ipvsadm -Sn | grep -F "$lines" || :)

iptables=$(saved iptables)
ip6tables=$(saved ip6tables)
put_back() {
	printf '%s\n' "$wanted" "$old" | drop
	# Without thresholds, which ipvsadm does not save.
	[ -z "$present" ] || printf '%s\n' "$present" | restore
	have iptables "$iptables"
	have ip6tables "$ip6tables"
	echo "$0: failed; all is as it was before" >&2
}
trap '[ $? = 0 ] || put_back' EXIT
trap 'exit 1' HUP INT TERM

load iptables <<'EOF'
*nat
:FULLNAT-web-1.snat - [0:0]
-A FULLNAT-web-1.snat -p tcp -m ipvs --vaddr 203.0.113.10 --vport 80 --vdir ORIGINAL -m statistic --mode random --probability 0.66666666667 -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source 198.19.0.1-198.19.0.2:1024-32767
-A FULLNAT-web-1.snat -p tcp -m ipvs --vaddr 203.0.113.10 --vport 80 --vdir ORIGINAL -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source 198.19.0.5:1024-32767
-A FULLNAT-web-1.snat -p udp -m ipvs --vaddr 203.0.113.10 --vport 53 --vdir ORIGINAL -m statistic --mode random --probability 0.66666666667 -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source 198.19.0.1-198.19.0.2:1024-32767
-A FULLNAT-web-1.snat -p udp -m ipvs --vaddr 203.0.113.10 --vport 53 --vdir ORIGINAL -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source 198.19.0.5:1024-32767
-A FULLNAT-web-1.snat -p tcp -m ipvs --vaddr 203.0.113.11 --vport 443 --vdir ORIGINAL -m statistic --mode random --probability 0.66666666667 -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source 198.19.0.1-198.19.0.2:1024-32767
-A FULLNAT-web-1.snat -p tcp -m ipvs --vaddr 203.0.113.11 --vport 443 --vdir ORIGINAL -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source 198.19.0.5:1024-32767
-I POSTROUTING 1 -m comment --comment "fullnat web-1: snat" -j FULLNAT-web-1.snat
COMMIT
*filter
:FULLNAT-web-1.enter - [0:0]
:FULLNAT-web-1.kernel - [0:0]
-A FULLNAT-web-1.enter -d 203.0.113.10 -p tcp -m tcp --dport 80 -m conntrack --ctstate NEW -m comment --comment "fullnat web-1: its connection" -j CONNMARK --set-xmark 0x4000000/0x4000000
-A FULLNAT-web-1.enter -d 203.0.113.10 -p tcp -m tcp --dport 80 -m comment --comment "fullnat web-1: ipvsadm -t 203.0.113.10:80" -j ACCEPT
-A FULLNAT-web-1.enter -d 203.0.113.10 -p udp -m udp --dport 53 -m conntrack --ctstate NEW -m comment --comment "fullnat web-1: its connection" -j CONNMARK --set-xmark 0x4000000/0x4000000
-A FULLNAT-web-1.enter -d 203.0.113.10 -p udp -m udp --dport 53 -m comment --comment "fullnat web-1: ipvsadm -u 203.0.113.10:53" -j ACCEPT
-A FULLNAT-web-1.enter -d 203.0.113.11 -p tcp -m tcp --dport 443 -m conntrack --ctstate NEW -m comment --comment "fullnat web-1: its connection" -j CONNMARK --set-xmark 0x4000000/0x4000000
-A FULLNAT-web-1.enter -d 203.0.113.11 -p tcp -m tcp --dport 443 -m comment --comment "fullnat web-1: ipvsadm -t 203.0.113.11:443" -j ACCEPT
-A FULLNAT-web-1.kernel -m connmark --mark 0x4000000/0x4000000 -m comment --comment "fullnat web-1: its connections" -j ACCEPT
-I INPUT 1 -m comment --comment "fullnat web-1: enter" -j FULLNAT-web-1.enter
-I FORWARD 1 -m comment --comment "fullnat web-1: kernel" -j FULLNAT-web-1.kernel
-I OUTPUT 1 -m comment --comment "fullnat web-1: kernel" -j FULLNAT-web-1.kernel
COMMIT
EOF
load ip6tables <<'EOF'
*nat
:FULLNAT-web-1.snat - [0:0]
-A FULLNAT-web-1.snat -p tcp -m ipvs --vaddr 2001:db8:1::10 --vport 80 --vdir ORIGINAL -m statistic --mode random --probability 0.75000000000 -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source [2001:db8:2::1-2001:db8:2::3]:1024-32767
-A FULLNAT-web-1.snat -p tcp -m ipvs --vaddr 2001:db8:1::10 --vport 80 --vdir ORIGINAL -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source [2001:db8:2::9]:1024-32767
-A FULLNAT-web-1.snat -p udp -m ipvs --vaddr 2001:db8:1::10 --vport 53 --vdir ORIGINAL -m statistic --mode random --probability 0.75000000000 -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source [2001:db8:2::1-2001:db8:2::3]:1024-32767
-A FULLNAT-web-1.snat -p udp -m ipvs --vaddr 2001:db8:1::10 --vport 53 --vdir ORIGINAL -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source [2001:db8:2::9]:1024-32767
-I POSTROUTING 1 -m comment --comment "fullnat web-1: snat" -j FULLNAT-web-1.snat
COMMIT
*filter
:FULLNAT-web-1.enter - [0:0]
:FULLNAT-web-1.kernel - [0:0]
-A FULLNAT-web-1.enter -d 2001:db8:1::10 -p tcp -m tcp --dport 80 -m conntrack --ctstate NEW -m comment --comment "fullnat web-1: its connection" -j CONNMARK --set-xmark 0x4000000/0x4000000
-A FULLNAT-web-1.enter -d 2001:db8:1::10 -p tcp -m tcp --dport 80 -m comment --comment "fullnat web-1: ipvsadm -t [2001:db8:1::10]:80" -j ACCEPT
-A FULLNAT-web-1.enter -d 2001:db8:1::10 -p udp -m udp --dport 53 -m conntrack --ctstate NEW -m comment --comment "fullnat web-1: its connection" -j CONNMARK --set-xmark 0x4000000/0x4000000
-A FULLNAT-web-1.enter -d 2001:db8:1::10 -p udp -m udp --dport 53 -m comment --comment "fullnat web-1: ipvsadm -u [2001:db8:1::10]:53" -j ACCEPT
-A FULLNAT-web-1.kernel -m connmark --mark 0x4000000/0x4000000 -m comment --comment "fullnat web-1: its connections" -j ACCEPT
-I INPUT 1 -m comment --comment "fullnat web-1: enter" -j FULLNAT-web-1.enter
-I FORWARD 1 -m comment --comment "fullnat web-1: kernel" -j FULLNAT-web-1.kernel
-I OUTPUT 1 -m comment --comment "fullnat web-1: kernel" -j FULLNAT-web-1.kernel
COMMIT
EOF
printf '%s\n' "$wanted" "$old" | drop
restore <<'EOF'
-A -t 203.0.113.10:80 -s rr
-a -t 203.0.113.10:80 -r 198.19.0.11:8080 -m -w 1 -x 0 -y 0
-a -t 203.0.113.10:80 -r 198.19.0.12:8080 -m -w 0 -x 0 -y 0
-a -t 203.0.113.10:80 -r 198.19.0.13:8080 -m -w 1 -x 0 -y 0
-a -t 203.0.113.10:80 -r 198.19.0.14:8080 -m -w 1 -x 0 -y 0
-A -u 203.0.113.10:53 -s wrr -p 300 -M 255.255.255.0
-a -u 203.0.113.10:53 -r 198.19.0.11:53 -m -w 3 -x 100 -y 50
-a -u 203.0.113.10:53 -r 198.19.0.12:53 -m -w 1 -x 0 -y 0
-A -t 203.0.113.11:443 -s rr
-a -t 203.0.113.11:443 -r 198.19.0.11:8443 -m -w 0 -x 0 -y 0
-A -t [2001:db8:1::10]:80 -s wlc -p 60 -M 60
-a -t [2001:db8:1::10]:80 -r [2001:db8:2::11]:8080 -m -w 1 -x 0 -y 0
-a -t [2001:db8:1::10]:80 -r [2001:db8:2::12]:8080 -m -w 1 -x 0 -y 0
-A -u [2001:db8:1::10]:53 -s fo
-a -u [2001:db8:1::10]:53 -r [2001:db8:2::11]:53 -m -w 5 -x 0 -y 0
-a -u [2001:db8:1::10]:53 -r [2001:db8:2::12]:53 -m -w 9 -x 0 -y 0
EOF
sysctl -q -w net.ipv4.ip_forward=1
sysctl -q -w net.ipv6.conf.all.forwarding=1
