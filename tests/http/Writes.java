import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

/**
 * Does every kind of write with the HttpClient of the JDK as it comes, which offers HTTP/2 with each first request.
 * Arguments: the URL of the service, an admin's key. Prints one line per request: status, method, path, body.
 */
class Writes {
    static String url;
    static String key;

    static void send(String method, String path, String type, String body) throws Exception {
        // A client of its own, so that each request is a first one.
        for (HttpClient.Version version : HttpClient.Version.values()) {
            HttpClient client = HttpClient.newBuilder().version(version).build();
            HttpRequest request = HttpRequest.newBuilder(URI.create(url + path))
                .header("Authorization", "Bearer " + key)
                .header("Content-Type", type)
                .header("Idempotency-Key", method + path)
                .method(method, body == null ? BodyPublishers.noBody() : BodyPublishers.ofString(body))
                .build();
            var answer = client.send(request, BodyHandlers.ofString());
            System.out.println(answer.statusCode() + " " + method + " " + path + " " + answer.body());
        }
    }

    static void json(String method, String path, String body) throws Exception {
        send(method, path, "application/json", body);
    }

    public static void main(String[] arguments) throws Exception {
        url = arguments[0];
        key = arguments[1];
        json("POST", "/v1/segments", "{\"slug\": \"JAVA\", \"percent\": 0}");
        json("PATCH", "/v1/segments/JAVA", "{\"description\": \"By the JDK\"}");
        json("PUT", "/v1/segments/JAVA/rollout", "{\"percent\": 10, \"starts_at\": \"2099-01-01T00:00:00Z\"}");
        json("DELETE", "/v1/segments/JAVA/rollout?starts_at=2099-01-01T00:00:00Z", null);
        json("PUT", "/v1/users/7", null);
        json("PATCH", "/v1/users/7/segments", "{\"add\": [\"JAVA\"]}");
        send("POST", "/v1/segments/JAVA/members", "text/csv", "user_id\n" + "8\n9\n".repeat(50_000));
        json("POST", "/v1/users/segments", "{\"user_ids\": [7, 8, 10]}");
        json("POST", "/v1/reports", "{\"period\": \"2026-11\"}");
        json("POST", "/ofrep/v1/evaluate/flags/JAVA", "{\"context\": {\"targetingKey\": \"9\"}}");
        json("DELETE", "/v1/users/8", null);
        json("DELETE", "/v1/segments/JAVA", null);
    }
}
