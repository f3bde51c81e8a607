{{/* What the services are and which ports they have. Everything else that differs between them is in values.yaml. */}}
{{- define "holdfast.services" -}}
intake: {grpc: 50051, admin: 9051}
queue: {grpc: 50052, admin: 9052}
dispatch: {grpc: 50053, admin: 9053}
{{- end }}

{{- define "holdfast.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "holdfast.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "holdfast.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "holdfast.policiesConfigMap" -}}
{{- default (printf "%s-policies" (include "holdfast.fullname" .)) .Values.policiesConfigMap -}}
{{- end }}

{{/* Labels. The selectors are a part of them that never changes while a release lives. Call with (list $ "queue"). */}}
{{- define "holdfast.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "holdfast.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: holdfast
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Seconds a pod is given to stop: both parts of the drain and ten more to flush. Call with a service's values. */}}
{{- define "holdfast.gracePeriod" -}}
{{- $server := .config.server -}}
{{- add 10 (ceil (divf (addf $server.drain_wait_ms $server.drain_deadline_ms) 1000)) -}}
{{- end }}

{{/* Peers of a network policy: the Internet without private networks. */}}
{{- define "holdfast.publicInternet" -}}
- ipBlock:
    cidr: 0.0.0.0/0
    except: [0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16]
- ipBlock:
    cidr: ::/0
    except: ["::/96", "64:ff9b::/96", "fc00::/7", "fe80::/10"]
{{- end }}

{{/* What must be said before anything is installed. */}}
{{- define "holdfast.check" -}}
{{- $security := .Values.security -}}
{{- if and (not $security.insecureNoAuthentication) (not $security.issuer.name) -}}
{{- fail "\n\nSet security.issuer.name to the issuer of your people's tokens (deploy/README.md, \"Who comes in\").\nOr set security.insecureNoAuthentication=true to let everybody in, on a network that only you can reach.\n" -}}
{{- end -}}
{{- if and $security.insecureNoAuthentication $security.issuer.name -}}
{{- fail "\n\nsecurity.insecureNoAuthentication: security.issuer.name is set, so callers are meant to prove who they are.\n" -}}
{{- end -}}
{{- if and $security.issuer.name (not $security.issuer.jwksUrl) -}}
{{- fail "\n\nSet security.issuer.jwksUrl to where the issuer publishes its keys.\n" -}}
{{- end -}}
{{- if and $security.issuer.name (not $security.keys.secret) -}}
{{- fail "\n\nSet security.keys.secret to the Secret with the services' and integrators' keys (deploy/README.md, \"Who comes in\").\n" -}}
{{- end -}}
{{- if not .Values.redis.urls -}}
{{- fail "\n\nSet redis.urls, such as {rediss://holdfast-queue@redis.example.svc:6379} (deploy/README.md says which settings Redis needs).\n" -}}
{{- end -}}
{{- range .Values.redis.urls -}}
{{- if regexMatch "://[^/]*:[^/]*@" . -}}
{{- fail "\n\nredis.urls holds a password: put the password into the Secret redis.passwordSecret.\n" -}}
{{- end -}}
{{- end -}}
{{- if not .Values.security.insecureNoTls -}}
{{- range $service, $secret := .Values.tls.secrets -}}
{{- if not $secret -}}
{{- fail (printf "\n\nSet tls.secrets.%s to a Secret with tls.crt, tls.key and ca.crt, or security.insecureNoTls=true where plaintext is meant.\n" $service) -}}
{{- end -}}
{{- end -}}
{{- range concat .Values.redis.urls .Values.redis.sentinels -}}
{{- if not (hasPrefix "rediss://" .) -}}
{{- fail "\n\nredis.urls or redis.sentinels hold an address in plaintext: rediss:// is TLS, or set security.insecureNoTls=true where plaintext is meant.\n" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.classifier.url (hasPrefix "http://" .Values.classifier.url) (not .Values.security.insecureNoTls) -}}
{{- fail "\n\nclassifier.url is plaintext, and visitors' answers go there: https:// is TLS, or set security.insecureNoTls=true where plaintext is meant.\n" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.redis) -}}
{{- fail "\n\nSet networkPolicy.redis to the peers where Redis is, or networkPolicy.enabled=false.\n" -}}
{{- end -}}
{{- if and .Values.classifier.url .Values.networkPolicy.enabled (not .Values.networkPolicy.classifier) -}}
{{- fail "\n\nSet networkPolicy.classifier to the peers where the classifier is: visitors' answers go there and nowhere else.\n" -}}
{{- end -}}
{{- end }}
