# shellcheck shell=sh
# Environment of the agent's login shell. What an image adds to /etc/profile.d/ reaches it as well;
# what it sets by ENV does not, since the switch of the user clears that.
PATH="/opt/trimo/bin:/home/agent/.local/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"
HTTP_PROXY=http://127.0.0.1:3128 HTTPS_PROXY=$HTTP_PROXY http_proxy=$HTTP_PROXY https_proxy=$HTTP_PROXY
NO_PROXY=localhost,127.0.0.1,::1 no_proxy=$NO_PROXY
LANG=C.UTF-8 TERM=dumb CI=true GIT_TERMINAL_PROMPT=0 GIT_EDITOR=true GIT_PAGER=cat PAGER=cat
export PATH HTTP_PROXY HTTPS_PROXY http_proxy https_proxy NO_PROXY no_proxy
export LANG TERM CI GIT_TERMINAL_PROMPT GIT_EDITOR GIT_PAGER PAGER
# What goes out is checked against this image's certificates, the building machine's extra ones among them.
NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=$NODE_EXTRA_CA_CERTS
REQUESTS_CA_BUNDLE=$NODE_EXTRA_CA_CERTS PIP_CERT=$NODE_EXTRA_CA_CERTS
export NODE_EXTRA_CA_CERTS SSL_CERT_FILE REQUESTS_CA_BUNDLE PIP_CERT
umask 022
