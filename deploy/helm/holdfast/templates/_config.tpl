{{/*
config.toml of a service: its own `config` of values.yaml, and over it what follows from the rest of the values.
Call with (dict "root" $ "service" "queue"). The keys are those of the config.toml beside its source.
*/}}
{{- define "holdfast.config" -}}
{{- $values := .root.Values -}}
{{- $ports := index (include "holdfast.services" .root | fromYaml) .service -}}
{{- $config := dict
    "server" (dict
      "listen" (printf "0.0.0.0:%d" (int $ports.grpc))
      "admin_listen" (printf "0.0.0.0:%d" (int $ports.admin)))
    "telemetry" $values.telemetry
    "security" (dict "insecure_no_authentication" $values.security.insecureNoAuthentication) -}}
{{- $access := $values.security -}}
{{- if $access.issuer.name -}}
{{- $issuer := dict "issuer" $access.issuer.name "audience" $access.issuer.audience "jwks_url" $access.issuer.jwksUrl -}}
{{- $_ := set $config "security.issuer" (merge $issuer $access.issuer.settings) -}}
{{- if ne .service "dispatch" -}}
{{- $_ := set $config.security "api_keys_file" "/run/secrets/access/keys.toml" -}}
{{- end -}}
{{- end -}}
{{- if eq .service "queue" -}}
{{- $redis := $values.redis -}}
{{- $store := dict "kind" "redis" "redis_urls" $redis.urls "cluster" $redis.cluster
    "redis_sentinels" $redis.sentinels "redis_primary_name" $redis.primaryName
    "replicas_required" $redis.replicasRequired "floor_replicas" $redis.floorReplicas
    "floor_persistence" $redis.floorPersistence "declared_persistence" $redis.declaredPersistence -}}
{{- if $redis.passwordSecret.name -}}
{{- $_ := set $store "redis_password_file" "/run/secrets/redis/password" -}}
{{- if $redis.sentinelsUsePassword -}}
{{- $_ := set $store "redis_sentinel_password_file" "/run/secrets/redis/password" -}}
{{- end -}}
{{- end -}}
{{- if $redis.tlsSecret.name -}}
{{- $_ := set $store "redis_tls_ca_file" "/run/secrets/redis-tls/ca.crt" -}}
{{- if $redis.tlsSecret.showCertificate -}}
{{- $_ := set $store "redis_tls_cert_file" "/run/secrets/redis-tls/tls.crt" -}}
{{- $_ := set $store "redis_tls_key_file" "/run/secrets/redis-tls/tls.key" -}}
{{- end -}}
{{- end -}}
{{- $_ := set $config "store" $store -}}
{{- $_ := set $config "content" (dict "key_dir" "/run/secrets/content-keys") -}}
{{- $_ := set $config "audit" (dict "key_file" "/run/secrets/audit/key" "keep_days" $values.audit.keepDays "max_entries" $values.audit.maxEntries) -}}
{{- $tickets := dict -}}
{{- if $values.tickets.secret.name -}}
{{- $_ := set $tickets "key_file" "/run/secrets/tickets/key" -}}
{{- end -}}
{{- if $values.tickets.oldSecret.name -}}
{{- $_ := set $tickets "old_key_file" "/run/secrets/old-tickets/key" -}}
{{- end -}}
{{- if $tickets -}}
{{- $_ := set $config "tickets" $tickets -}}
{{- end -}}
{{- $paging := dict -}}
{{- if $values.paging.secret.name -}}
{{- $_ := set $paging "secret_file" "/run/secrets/paging/secret" -}}
{{- end -}}
{{- if $values.paging.ca.configMap -}}
{{- $_ := set $paging "ca_file" "/etc/holdfast/paging/ca.pem" -}}
{{- end -}}
{{- if $paging -}}
{{- $_ := set $config "paging" $paging -}}
{{- end -}}
{{- else -}}
{{- $queue := printf "%s://%s-queue-headless.%s.svc:50052" (ternary "https" "http" (not (empty $values.tls.secrets.queue))) (include "holdfast.fullname" .root) .root.Release.Namespace -}}
{{- $_ := set $config "queue" (dict "discovery" "dns" "addresses" (list $queue)) -}}
{{- if $access.issuer.name -}}
{{- $_ := set $config.queue "key_file" "/run/secrets/access/own.key" -}}
{{- end -}}
{{- end -}}
{{- if eq .service "intake" -}}
{{- $_ := set $config.security "visitor_token_key_file" "/run/secrets/visitor-token/key" -}}
{{- with $values.classifier.url -}}
{{- $_ := set $config "classifier" (dict "url" .) -}}
{{- end -}}
{{- end -}}
{{- if ne .service "dispatch" -}}
{{- $_ := set $config "policy" (dict "dir" "/etc/holdfast/policies") -}}
{{- end -}}
{{- if eq .service "queue" -}}
{{- $_ := set $config.policy "overwrite" $values.policiesOverwrite -}}
{{- end -}}
{{- $_ := set $config.security "insecure_no_tls" $values.security.insecureNoTls -}}
{{- if index $values.tls.secrets .service -}}
{{- $shown := ternary "/run/secrets/public-tls" "/run/secrets/tls" (not (empty (dig .service "" $values.tls.publicSecrets))) -}}
{{- $server := dict "cert_file" (print $shown "/tls.crt") "key_file" (print $shown "/tls.key") -}}
{{- if eq .service "queue" -}}
{{- $_ := set $server "client_ca_file" "/run/secrets/tls/ca.crt" -}}
{{- else -}}
{{- $_ := set $config "client.tls" (dict
    "ca_file" "/run/secrets/tls/ca.crt" "cert_file" "/run/secrets/tls/tls.crt" "key_file" "/run/secrets/tls/tls.key") -}}
{{- end -}}
{{- $_ := set $config "server.tls" $server -}}
{{- end -}}
{{- include "holdfast.toml" (mustMergeOverwrite (deepCopy (index $values .service).config) $config) -}}
{{- end }}

{{/* A map of sections as TOML. Helm's own toToml writes whole numbers as 8000.0, which no integer setting accepts. */}}
{{- define "holdfast.toml" -}}
{{- range $section, $settings := . }}
[{{ $section }}]
{{- range $key, $value := $settings }}
{{ $key }} = {{ include "holdfast.tomlValue" $value }}
{{- end }}
{{ end }}
{{- end }}

{{- define "holdfast.tomlValue" -}}
{{- if kindIs "float64" . -}}
{{- if eq . (floor .) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- else if kindIs "map" . -}}
{{- fail "config: a section may hold texts, numbers, booleans and lists of them" -}}
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end }}
